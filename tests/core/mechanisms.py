"""The table of mechanisms: how each is made, what it must equal, what it refuses, and the calls to try it with.

A new mechanism is a row of `MECHANISMS`; `test_attention.py` and `traced.py` hold every property against every row.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor

from core.attention import (
    Attention,
    FixedSparseAttention,
    FullAttention,
    LinearAttention,
    LongformerAttention,
    SparseAttention,
)
from core.masks import combine_masks
from tests.core.helpers import by_blocks

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 3e-2}


def dense_softmax(q: Tensor, k: Tensor, v: Tensor, blocked: Tensor) -> Tensor:
    """Softmax attention, written out: the exponentials of a query's free keys, divided by their sum."""
    scores = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).masked_fill(blocked, -math.inf)
    highest = scores.amax(-1, keepdim=True).clamp(min=-1e30)  # a query without keys has none
    weights = (scores - highest).exp()
    return weights @ v / weights.sum(-1, keepdim=True).clamp(min=1e-30)


def dense_linear(q: Tensor, k: Tensor, v: Tensor, blocked: Tensor) -> Tensor:
    """Katharopoulos et al. 2020 with every weight written out: `phi(q) phi(k)^T`, divided by the sum over keys."""
    weights = ((F.elu(q) + 1) @ (F.elu(k) + 1).mT).masked_fill(blocked, 0.0)
    return weights @ v / weights.sum(-1, keepdim=True).clamp(min=1e-30)


def dense_pattern(sees: Callable[[int, int], bool]) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Softmax attention over the pairs (query, key) that a rule lets see each other."""

    def oracle(q: Tensor, k: Tensor, v: Tensor, blocked: Tensor) -> Tensor:
        length = k.shape[2]
        pattern = [[not sees(query, key) for key in range(length)] for query in range(length)]
        return dense_softmax(q, k, v, blocked | torch.tensor(pattern, device=q.device))

    return oracle


def strided(query: int, key: int, stride: int = 3) -> bool:
    """Child et al. 2019, section 4.3, to both sides."""
    return key in range(query - stride, query + stride + 1) or (query - key) % stride == 0


def fixed(query: int, key: int, stride: int = 4, summary: int = 2) -> bool:
    """Child et al. 2019, section 4.3, to both sides."""
    return query // stride == key // stride or key % stride in range(stride - summary, stride)


def longformer(query: int, key: int, window: int = 4, tokens: int = 0, dilation: int = 1) -> bool:
    """Beltagy et al. 2020, section 3.1."""
    steps = range(-(window // 2), window // 2 + 1)
    return key in [query + step * dilation for step in steps] or query < tokens or key < tokens


@dataclass(frozen=True)
class Mechanism:
    """One row: how to make a mechanism, what it must equal, and what it says that it refuses."""

    name: str
    make: Callable[[], Attention]
    oracle: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    with_dropout: Callable[[], Attention] | None = None
    refuses: frozenset[str] = frozenset()  # of "attn_mask", "is_causal", "cross" (query_len != key_len)
    refused_constructions: list[tuple[Callable[[], Attention], str]] = field(default_factory=list)  # with the message
    longest: int = 12  # of the drawn lengths: beyond its blocks, windows and chunks
    wide: Callable[[int], Attention] | None = None  # so wide that up to a length it is full attention


PATTERN_REFUSES = frozenset({"attn_mask", "cross"})

MECHANISMS = [
    Mechanism(
        name="full",
        make=FullAttention,
        oracle=dense_softmax,
        with_dropout=lambda: FullAttention(dropout=0.5),
        refused_constructions=[
            (lambda: FullAttention(dropout=1.0), "dropout=1.0"),
            (lambda: FullAttention(dropout=-0.1), "dropout=-0.1"),
        ],
        wide=lambda _: FullAttention(),
    ),
    Mechanism(
        name="linear",
        make=LinearAttention,
        oracle=dense_linear,
        refuses=frozenset({"attn_mask"}),
        longest=20,
    ),
    Mechanism(
        name="sparse",
        make=by_blocks(lambda: SparseAttention(stride=3)),
        oracle=dense_pattern(strided),
        refuses=PATTERN_REFUSES,
        refused_constructions=[(lambda: SparseAttention(stride=0), "stride=0")],
        longest=20,
        wide=lambda length: by_blocks(lambda: SparseAttention(stride=length))(),
    ),
    Mechanism(
        name="sparse, short",
        make=lambda: SparseAttention(stride=3),
        oracle=dense_pattern(strided),
        refuses=PATTERN_REFUSES,
    ),
    Mechanism(
        name="fixed",
        make=by_blocks(lambda: FixedSparseAttention(stride=4, summary_size=2)),
        oracle=dense_pattern(fixed),
        refuses=PATTERN_REFUSES,
        refused_constructions=[
            (lambda: FixedSparseAttention(stride=0), "stride=0"),
            (lambda: FixedSparseAttention(stride=4, summary_size=5), "summary_size=5"),
        ],
        longest=20,
        wide=lambda length: by_blocks(lambda: FixedSparseAttention(stride=length, summary_size=1))(),
    ),
    Mechanism(
        name="fixed, short",
        make=lambda: FixedSparseAttention(stride=4, summary_size=2),
        oracle=dense_pattern(fixed),
        refuses=PATTERN_REFUSES,
    ),
    Mechanism(
        name="longformer",
        make=by_blocks(lambda: LongformerAttention(window_size=4)),
        oracle=dense_pattern(longformer),
        refuses=PATTERN_REFUSES,
        refused_constructions=[
            (lambda: LongformerAttention(window_size=5), "window_size=5"),
            (lambda: LongformerAttention(window_size=0), "window_size=0"),
            (lambda: LongformerAttention(num_global_tokens=-1), "num_global_tokens=-1"),
            (lambda: LongformerAttention(dilation=0), "dilation=0"),
        ],
        longest=20,
        wide=lambda length: by_blocks(lambda: LongformerAttention(window_size=2 * length))(),
    ),
    Mechanism(
        name="longformer, global tokens",
        make=by_blocks(lambda: LongformerAttention(window_size=2, num_global_tokens=3)),
        oracle=dense_pattern(partial(longformer, window=2, tokens=3)),
        refuses=PATTERN_REFUSES,
        longest=20,
        wide=lambda length: by_blocks(lambda: LongformerAttention(window_size=2, num_global_tokens=length))(),
    ),
    Mechanism(
        name="longformer, dilated",
        make=by_blocks(lambda: LongformerAttention(window_size=4, num_global_tokens=1, dilation=3)),
        oracle=dense_pattern(partial(longformer, tokens=1, dilation=3)),
        refuses=PATTERN_REFUSES,
        longest=30,
    ),
    Mechanism(
        name="longformer, short",
        make=lambda: LongformerAttention(window_size=4, num_global_tokens=1, dilation=2),
        oracle=dense_pattern(partial(longformer, tokens=1, dilation=2)),
        refuses=PATTERN_REFUSES,
    ),
]

every_mechanism = pytest.mark.parametrize("mechanism", MECHANISMS, ids=[row.name for row in MECHANISMS])


@dataclass(frozen=True)
class Case:
    """Tensors and masks of one call; `used` says which masks are handed over."""

    q: Tensor
    k: Tensor
    v: Tensor
    key_padding_mask: Tensor
    attn_mask: Tensor
    used: frozenset[str] = frozenset()

    def masks(self) -> dict:
        masks: dict = {name: getattr(self, name) for name in ("key_padding_mask", "attn_mask") if name in self.used}
        return masks | ({"is_causal": True} if "is_causal" in self.used else {})

    def blocked(self) -> Tensor:
        query_len, key_len = self.q.shape[2], self.k.shape[2]
        blocked = combine_masks(query_len, key_len, device=self.q.device, **self.masks())
        none = torch.zeros(len(self.q), 1, query_len, key_len, dtype=torch.bool, device=self.q.device)
        return none if blocked is None else blocked | none

    def leaves(self) -> list[Tensor]:
        return [x.detach().clone().requires_grad_() for x in (self.q, self.k, self.v)]

    def gradients(self, output: Tensor, leaves: list[Tensor]) -> tuple[Tensor, ...]:
        """Gradients of a loss that weighs every element of the output differently."""
        weights = torch.linspace(-1, 1, output.numel(), device=output.device, dtype=output.dtype).view_as(output)
        return torch.autograd.grad((output * weights).sum(), leaves)


@st.composite
def cases(draw, mechanism: Mechanism, dtype: torch.dtype | None = None) -> Case:
    """Draws a call that the mechanism honours, all masks ready and none used."""
    batch, heads, head_dim = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.sampled_from([1, 4, 8]))
    key_len = draw(st.integers(1, mechanism.longest))
    query_len = key_len if "cross" in mechanism.refuses else draw(st.integers(1, key_len))
    dtype = dtype or draw(st.sampled_from([torch.float32, torch.bfloat16]))
    shares = st.sampled_from([0.0, 0.3, 1.0])
    padded, masked, generator = draw(shares), draw(shares), torch.Generator().manual_seed(draw(st.integers(0, 999)))

    def normal(length: int) -> Tensor:
        return torch.randn(batch, heads, length, head_dim, generator=generator).to(DEVICE, dtype)

    def mask(rows: int, share: float) -> Tensor:
        return (torch.rand(rows, key_len, generator=generator) < share).to(DEVICE)

    return Case(normal(query_len), normal(key_len), normal(key_len), mask(batch, padded), mask(query_len, masked))


def honoured_masks(mechanism: Mechanism) -> list[frozenset[str]]:
    """Every combination of masks that the mechanism honours."""
    names = [name for name in ("key_padding_mask", "attn_mask", "is_causal") if name not in mechanism.refuses]
    choices = product([False, True], repeat=len(names))
    return [frozenset(name for name, used in zip(names, choice, strict=True) if used) for choice in choices]


def assert_close(actual: Tensor, expected: Tensor, what: str) -> None:
    tolerance = TOLERANCE[actual.dtype]
    torch.testing.assert_close(
        actual.double(), expected.double(), rtol=tolerance, atol=tolerance, msg=lambda m: f"{what}: {m}"
    )

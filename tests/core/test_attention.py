"""Conformance: every mechanism in one table x every property that the contract promises.

A new mechanism is a row of `MECHANISMS`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from core.attention import (
    Attention,
    FixedSparseAttention,
    FullAttention,
    LinearAttention,
    LongformerAttention,
    SparseAttention,
    blocks,
    linear_scan,
    linear_sums,
)
from core.cache import Past
from core.masks import combine_masks, padding_mask
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


def dense_pattern(sees: Callable[[int, int, int], bool]) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Softmax attention over the pairs (query, key) that a rule lets see each other, of a length."""

    def oracle(q: Tensor, k: Tensor, v: Tensor, blocked: Tensor) -> Tensor:
        length = k.shape[2]
        pattern = [[not sees(query, key, length) for key in range(length)] for query in range(length)]
        return dense_softmax(q, k, v, blocked | torch.tensor(pattern, device=q.device))

    return oracle


def strided(query: int, key: int, _: int, stride: int = 3) -> bool:
    """Child et al. 2019, section 4.3, to both sides."""
    return key in range(query - stride, query + stride + 1) or (query - key) % stride == 0


def fixed(query: int, key: int, _: int, stride: int = 4, summary: int = 2) -> bool:
    """Child et al. 2019, section 4.3, to both sides."""
    return query // stride == key // stride or key % stride in range(stride - summary, stride)


def longformer(query: int, key: int, _: int, window: int = 4, tokens: int = 0, dilation: int = 1) -> bool:
    """Beltagy et al. 2020, section 3.1."""
    steps = range(-(window // 2), window // 2 + 1)
    return key in [query + step * dilation for step in steps] or query < tokens or key < tokens


@pytest.fixture(autouse=True, scope="module")
def small_chunks():
    """So that a few tokens are several chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "CHUNK_ROWS", 8)
        patch.setattr(linear_sums, "BLOCK", 4)
        patch.setattr(linear_scan, "CHUNK", {})
        patch.setattr(linear_scan, "CHUNK_ELSEWHERE", 64)
        yield


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


@every_mechanism
@given(data=st.data())
def test_equals_the_oracle_with_every_combination_of_masks(mechanism, data):
    drawn = data.draw(cases(mechanism))
    for used in honoured_masks(mechanism):
        case = replace(drawn, used=used)
        output = mechanism.make()(case.q, case.k, case.v, **case.masks())
        assert output.dtype == case.q.dtype
        expected = mechanism.oracle(case.q.double(), case.k.double(), case.v.double(), case.blocked())
        assert_close(output, expected, f"masks {sorted(used)}")


@every_mechanism
@given(data=st.data())
def test_gradients_are_those_of_the_oracle(mechanism, data):
    drawn = data.draw(cases(mechanism, torch.float32))
    for used in honoured_masks(mechanism):
        case = replace(drawn, used=used)
        leaves, exact = case.leaves(), [x.double().detach().requires_grad_() for x in case.leaves()]
        gradients = case.gradients(mechanism.make()(*leaves, **case.masks()), leaves)
        expected = case.gradients(mechanism.oracle(*exact, case.blocked()), exact)
        for name, gradient, exact_gradient in zip("qkv", gradients, expected, strict=True):
            assert gradient.isfinite().all()
            assert_close(gradient, exact_gradient.float(), f"gradient of {name} with masks {sorted(used)}")


@every_mechanism
@given(data=st.data(), garbage=st.sampled_from([7.0, 1e30, math.inf, -math.inf, math.nan]))
def test_padding_holds_nothing(mechanism, data, garbage):
    drawn = data.draw(cases(mechanism))
    for used in honoured_masks(mechanism):
        case = replace(drawn, used=used | {"key_padding_mask"})
        padded = case.key_padding_mask[:, None, :, None]
        spoilt = replace(case, k=case.k.masked_fill(padded, garbage), v=case.v.masked_fill(padded, garbage))
        results = []
        for one in (case, spoilt):
            leaves = one.leaves()
            output = mechanism.make()(*leaves, **one.masks())
            results.append((output, *case.gradients(output, leaves)))
        for name, clean, dirty in zip(["output", "dq", "dk", "dv"], *results, strict=True):
            assert dirty.isfinite().all(), name
            assert_close(dirty, clean, name)
        for gradient in results[1][2:]:
            assert (gradient.masked_select(padded) == 0).all()


@every_mechanism
@given(data=st.data())
def test_a_query_without_keys_gives_zeros(mechanism, data):
    drawn = data.draw(cases(mechanism))
    for used in honoured_masks(mechanism):
        padding = drawn.key_padding_mask.clone()
        padding[0] = True
        case = replace(drawn, key_padding_mask=padding, used=used | {"key_padding_mask"})
        leaves = case.leaves()
        output = mechanism.make()(*leaves, **case.masks())
        assert (output[0] == 0).all()
        assert (output.masked_select(case.blocked().all(-1, keepdim=True)) == 0).all()
        for gradient in case.gradients(output, leaves):
            assert gradient.isfinite().all()
            assert (gradient[0] == 0).all()


@every_mechanism
@given(data=st.data())
def test_no_gradient_from_the_future(mechanism, data):
    if "is_causal" in mechanism.refuses:
        return
    case = data.draw(cases(mechanism, torch.float32))
    query_len, key_len = case.q.shape[2], case.k.shape[2]
    query = data.draw(st.integers(0, query_len - 1))
    now = query + key_len - query_len  # the last query stands at the last key
    leaves = case.leaves()
    output = mechanism.make()(*leaves, is_causal=True)
    dq, dk, dv = torch.autograd.grad(output[:, :, query].sum(), leaves)
    assert (dk[:, :, now + 1 :] == 0).all()
    assert (dv[:, :, now + 1 :] == 0).all()
    assert (dv[:, :, now] != 0).all()  # its own position it does see
    assert (dq[:, :, :query] == 0).all()
    assert (dq[:, :, query + 1 :] == 0).all()


@every_mechanism
@given(data=st.data())
def test_causal_steps_equal_the_whole(mechanism, data):
    """A query at a time over growing keys, as a cache would ask, is the same as all at once."""
    if mechanism.refuses & {"is_causal", "cross"}:
        return
    case = data.draw(cases(mechanism, torch.float32))
    length, attention = case.k.shape[2], mechanism.make()
    q = case.k.flip(2)
    whole = attention(q, case.k, case.v, is_causal=True)
    for step in range(length):
        seen = slice(0, step + 1)
        one = attention(q[:, :, step : step + 1], case.k[:, :, seen], case.v[:, :, seen], is_causal=True)
        assert_close(one[:, :, 0], whole[:, :, step], f"step {step}")


@every_mechanism
@given(data=st.data())
def test_training_equals_evaluation_without_dropout(mechanism, data):
    case = data.draw(cases(mechanism))
    attention = mechanism.make()
    for used in honoured_masks(mechanism):
        masks = replace(case, used=used).masks()
        trained = attention.train()(case.q, case.k, case.v, **masks)
        assert torch.equal(trained, attention.eval()(case.q, case.k, case.v, **masks))


@every_mechanism
def test_dropout_acts_in_training_only(mechanism):
    if mechanism.with_dropout is None:
        return
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 8, 4, device=DEVICE).expand(-1, 2000, -1, -1, -1).unbind(0)
    attention, exact = mechanism.with_dropout(), mechanism.make()(q, k, v)
    assert_close(attention.eval()(q, k, v), exact, "evaluation")
    trained = attention.train()(q, k, v)
    assert (trained - exact).abs().max() > 0.1
    torch.testing.assert_close(trained.mean(0), exact[0], atol=0.15, rtol=0)  # unbiased


@every_mechanism
@given(data=st.data())
def test_decoding_with_a_cache_equals_the_whole(mechanism, data):
    """Prompts of unequal length, then tokens singly and several at a time, some rows being padding."""
    if "is_causal" in mechanism.refuses:
        return
    case, attention = data.draw(cases(mechanism, torch.float32)), mechanism.make()
    batch, length = len(case.k), case.k.shape[2]
    q, cache, past = case.k.flip(2), attention.make_cache(), Past()
    expected = attention(q, case.k, case.v, is_causal=True)
    done = torch.zeros(batch, dtype=torch.long)
    for _ in range(4):
        counts = torch.tensor([data.draw(st.integers(0 if past.longest else 1, 3)) for _ in range(batch)])
        counts = torch.minimum(counts, length - done)
        width = int(counts.max())
        if width == 0:
            break
        padding = padding_mask(counts).to(DEVICE)
        places = (done[:, None] + torch.arange(width)).clamp(max=length - 1).to(DEVICE)
        rows = torch.arange(batch, device=DEVICE)[:, None]
        new = [x[rows, :, places].transpose(1, 2) for x in (q, case.k, case.v)]
        spoilt = [x.masked_fill(padding[:, None, :, None], math.nan) for x in new[1:]]
        mask = padding if padding.any() else None
        mixed = attention.decode(new[0], *spoilt, cache, past, key_padding_mask=mask)
        past, done = past.advance(width, mask), done + counts
        for row, place in (~padding).nonzero().tolist():
            assert_close(mixed[row, :, place], expected[row, :, places[row, place]], f"row {row}, place {place}")


@every_mechanism
@given(data=st.data())
def test_wide_enough_it_is_full_attention(mechanism, data):
    if mechanism.wide is None:
        return
    drawn = data.draw(cases(mechanism, torch.float32))
    for used in honoured_masks(mechanism):
        case = replace(drawn, used=used)
        output = mechanism.wide(case.k.shape[2])(case.q, case.k, case.v, **case.masks())
        assert_close(output, dense_softmax(case.q, case.k, case.v, case.blocked()), f"masks {sorted(used)}")


@every_mechanism
def test_refusals_raise(mechanism):
    for construct, message in mechanism.refused_constructions:
        with pytest.raises(ValueError, match=message):
            construct()
    q, k = torch.randn(1, 1, 3, 4, device=DEVICE), torch.randn(1, 1, 2, 4, device=DEVICE)
    with pytest.raises(ValueError, match=r"causal|key_len"):  # the first query would have nothing to see
        mechanism.make()(q, k, k, is_causal=True)
    calls = {
        "attn_mask": lambda: mechanism.make()(q, q, q, attn_mask=torch.eye(3, dtype=torch.bool, device=DEVICE)),
        "is_causal": lambda: mechanism.make()(q, q, q, is_causal=True),
        "cross": lambda: mechanism.make()(q, k, k),
    }
    for name, call in calls.items():
        if name in mechanism.refuses:
            with pytest.raises(ValueError, match=r"attn_mask|is_causal|query_len|key_len"):
                call()
        else:
            assert call().shape == q.shape


def test_full_attention_by_hand():
    """Scores ln 1 and ln 3 give the weights 1/4 and 3/4."""
    q = torch.tensor([[[[math.log(3.0)]]]])
    k = torch.tensor([[[[0.0], [1.0]]]])
    v = torch.tensor([[[[4.0], [8.0]]]])
    torch.testing.assert_close(FullAttention()(q, k, v), torch.tensor([[[[7.0]]]]))
    blocked = torch.tensor([[False, True]])
    torch.testing.assert_close(FullAttention()(q, k, v, attn_mask=blocked), torch.tensor([[[[4.0]]]]))
    torch.testing.assert_close(FullAttention()(q, k, v, key_padding_mask=~blocked), torch.tensor([[[[8.0]]]]))

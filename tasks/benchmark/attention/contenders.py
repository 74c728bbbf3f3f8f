"""Who takes part in `python -m tasks.benchmark attention`: the core's mechanisms, then their peers."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from core import MultiHeadAttention
from core.attention import Attention, LinearAttention, LongformerAttention, SparseAttention
from tasks.benchmark.attention.floors import longformer_pairs, sparse_pairs, stride_of
from tasks.benchmark.attention.peers import BareSDPA, PublishedLongformer, band_sdpa
from tasks.benchmark.attention.plan import Plan, Shape


@dataclass(frozen=True)
class Contender:
    """A layer, `layer(x, is_causal=...)`, and what is known of it before it is measured.

    Attributes:
        make: Makes the layer.
        floor: Which of `FLOORS` are its products.
        growth: Exponent of its time in the length, until two lengths are measured.
        need: Bytes that a forward and a backward pass need besides the tokens' own; a rough figure, which the first
            measurement corrects.
        causal: Whether it has a causal form.
        package: What has to be installed.
    """

    make: Callable[[Shape], nn.Module]
    floor: str
    growth: float
    need: Callable[[Shape], int] = lambda _: 0
    causal: bool = True
    package: str | None = None


def _layer(shape: Shape, attention: Callable[[], Attention]) -> nn.Module:
    return MultiHeadAttention(shape.width, shape.heads, attention)


CONTENDERS: dict[str, Contender] = {
    "full": Contender(lambda shape: MultiHeadAttention(shape.width, shape.heads), "full", 2),
    "sparse": Contender(
        lambda shape: _layer(shape, lambda: SparseAttention(stride=stride_of(shape.length))),
        "sparse",
        1.5,
        lambda shape: 3 * 4 * shape.heads * sparse_pairs(shape),
    ),
    "linear": Contender(lambda shape: _layer(shape, LinearAttention), "linear", 1),
    "longformer": Contender(
        lambda shape: _layer(
            shape, lambda: LongformerAttention(window_size=shape.window, num_global_tokens=shape.global_tokens)
        ),
        "longformer",
        1,
        lambda shape: 3 * 4 * shape.heads * longformer_pairs(shape),
    ),
    "sdpa": Contender(lambda shape: BareSDPA(shape.width, shape.heads), "full", 2),
    "band": Contender(
        lambda shape: band_sdpa(shape.width, shape.heads, shape.window, shape.global_tokens),
        "longformer",
        2,
        lambda shape: 5 * shape.length**2,  # the mask, and the copy in floats that SDPA makes of it
    ),
    "transformers_longformer": Contender(
        lambda shape: PublishedLongformer(shape.width, shape.heads, shape.window, shape.global_tokens),
        "longformer",
        1,
        lambda shape: 8 * 4 * shape.heads * longformer_pairs(shape),
        causal=False,
        package="transformers",
    ),
}


def need_of(name: str, shape: Shape) -> int:
    """Bytes that a contender probably needs: some twelve tensors as large as the tokens, and what it says itself."""
    return 12 * 4 * shape.length * shape.width + CONTENDERS[name].need(shape)


def taking_part(plan: Plan, causal: bool) -> list[str]:
    """The contenders that the plan names, that have such a form and that are installed."""
    return [
        name
        for name in plan.attentions
        if (CONTENDERS[name].causal or not causal) and is_installed(CONTENDERS[name].package)
    ]


def is_installed(package: str | None) -> bool:
    """Whether a package can be imported; nothing can always be."""
    return package is None or importlib.util.find_spec(package) is not None

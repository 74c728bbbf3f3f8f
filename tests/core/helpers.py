"""What the tests of the core share: the mechanisms that they run with, and tensors that can be made again."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from core import (
    Attention,
    FixedSparseAttention,
    FullAttention,
    LinearAttention,
    LongformerAttention,
    MultiHeadAttention,
    SparseAttention,
)
from core.attention.base import try_out
from core.attention.pattern import PatternAttention


def by_blocks(make: Callable[[], PatternAttention]) -> Callable[[], PatternAttention]:
    """The mechanism with small blocks even for short sequences, which it would compute as one masked product."""

    def made() -> PatternAttention:
        attention = make()
        attention.dense_length = 0
        if isinstance(attention, LongformerAttention):
            attention.rows = attention.reach
            attention.dense_length = attention.num_global_tokens
        return attention

    return made


ATTENTIONS: list[Callable[[], Attention]] = [
    FullAttention,
    LinearAttention,
    by_blocks(lambda: SparseAttention(stride=3)),
    by_blocks(lambda: FixedSparseAttention(stride=3, summary_size=1)),
    by_blocks(lambda: LongformerAttention(window_size=4, num_global_tokens=1)),
    lambda: LongformerAttention(window_size=2, dilation=2),
]
"""Every mechanism under which encoder, decoder, cache, packing and explanation are tested: a line each."""
OF_EACH_KIND = [ATTENTIONS[0], ATTENTIONS[1], ATTENTIONS[4]]
"""Of all keys, of none, of some: what takes seconds with each is slow with the others."""


def serves(attention: Callable[[], Attention], **call) -> bool:
    """Whether a mechanism takes such a call, or says that it cannot."""
    try:
        try_out(attention(), head_dim=2, **call)
    except ValueError:
        return False
    return True


CAUSAL = [make for make in ATTENTIONS if serves(make, query_len=2, key_len=2, is_causal=True)]
CROSS = [make for make in ATTENTIONS if serves(make, query_len=2, key_len=3, is_causal=False)]


def with_each(
    attentions: list[Callable[[], Attention]],
    name: str = "attention",
    *,
    by_default: list[Callable[[], Attention]] = ATTENTIONS,
) -> pytest.MarkDecorator:
    """Runs a test with each of these mechanisms; as a slow one with those that are not run by default."""
    marks = {make: () if make in by_default else pytest.mark.slow for make in attentions}
    return pytest.mark.parametrize(
        name, [pytest.param(make, marks=marks[make], id=type(make()).__name__) for make in attentions]
    )


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def randomise(module: nn.Module, seed: int = 0, std: float = 0.3) -> None:
    """Gives every parameter random values, those that start as ones or zeros too: none may hide."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in filter(lambda one: one.requires_grad, module.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)


def attention_pairs(
    ours: MultiHeadAttention, theirs: nn.MultiheadAttention
) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
    """Parameters of ours beside those of torch's that they stand for."""
    assert isinstance(theirs.in_proj_weight, nn.Parameter)
    yield from [(ours.in_proj.weight, theirs.in_proj_weight), (ours.in_proj.bias, theirs.in_proj_bias)]
    yield from zip(ours.out_proj.parameters(), theirs.out_proj.parameters(), strict=True)


def copy_over(pairs: Iterator[tuple[nn.Parameter, nn.Parameter]]) -> None:
    """Gives the first of each pair the values of the second."""
    with torch.no_grad():
        for ours, theirs in pairs:
            ours.copy_(theirs)


def gradients(module: nn.Module, loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    """Gradients of all parameters and of `inputs`; zeros for what took no part."""
    return list(torch.autograd.grad(loss, [*module.parameters(), *inputs], materialize_grads=True))


def weighed(output: Tensor, seed: int = 7) -> Tensor:
    """A loss to which every element of the output matters differently."""
    return (output * normal(*output.shape, seed=seed)).sum()


def assert_same(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)


def assert_all_same(actual: list[Tensor], expected: list[Tensor], tolerance: float = 1e-5) -> None:
    for mine, its in zip(actual, expected, strict=True):
        assert_same(mine, its, tolerance)

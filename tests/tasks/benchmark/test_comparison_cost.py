from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.attention import Attention, FullAttention, LinearAttention, LongformerAttention, SparseAttention
from tasks.benchmark.comparison.cost import Bench, _first, _flops, make_bench
from tasks.benchmark.comparison.experiments import EMBEDDED, MECHANISMS

LENGTH, WIDTH, HEADS = 1024, 32, 2
PAIRS: dict[str, tuple[Callable[[], Attention], int, float]] = {
    "full": (FullAttention, LENGTH**2, 1.0),
    # Blocks of a stride see their own and the two beside them, and each column of tokens a stride apart itself.
    "sparse": (lambda: SparseAttention(stride=32), LENGTH * (3 * 32 + 32), 1.1),
    # Blocks of half a window see themselves and the two beside them.
    "longformer": (lambda: LongformerAttention(window_size=128), LENGTH * 3 * 64, 1.1),
}


def inputs() -> list[Tensor]:
    return [torch.randn(1, HEADS, LENGTH, WIDTH, requires_grad=True) for _ in range(3)]


@pytest.mark.parametrize("name", PAIRS)
def test_flops_of_attention_are_those_of_the_pairs_that_it_computes(name: str):
    make, pairs, more = PAIRS[name]
    attention = make()
    with torch.no_grad():
        forward = _flops(lambda: attention(*inputs()))
    expected = 2 * 2 * pairs * HEADS * WIDTH  # scores and values, a multiplication and an addition each
    assert expected <= forward <= more * expected
    both = _flops(lambda: attention(*inputs()).sum().backward())
    assert 3 * expected <= both <= 3.6 * more * expected  # backward four products, and the scores anew


def test_flops_of_linear_attention_grow_with_the_length():
    attention = LinearAttention()
    with torch.no_grad():
        flops = _flops(lambda: attention(*inputs()))
    assert flops == pytest.approx(2 * 2 * LENGTH * WIDTH**2 * HEADS, rel=0.1)


def test_the_first_sample_has_no_padding_of_others():
    batch = {"audio": torch.ones(3, 100), "audio_lengths": torch.tensor([40, 100, 7])}
    audio, lengths = _first(batch, ("audio", "audio_lengths"))
    assert audio is not None
    assert audio.shape == (1, 40)
    assert lengths is not None
    assert lengths.tolist() == [40]
    past, mask, covariates = _first(
        {"past": torch.ones(2, 5, 1), "past_mask": torch.zeros(2, 5, 1, dtype=torch.bool)},
        ("past", "past_mask", "covariates"),
    )
    assert past is not None
    assert past.shape == (1, 5, 1)
    assert (mask, covariates) == (None, None)


@cache
def bench_of(name: str) -> Bench:
    (experiment,) = (each for each in EMBEDDED if each.name == name)
    return make_bench(experiment, experiment.args("full", epochs=1, data_root=Path()))


@pytest.mark.parametrize("attention", MECHANISMS)
@pytest.mark.parametrize("name", ["vit", "vit_long", "forecast", "forecast_long"])
def test_whatever_the_attention_an_answer_depends_on_the_whole_input(name: str, attention: str):
    """Or else a mechanism would lose to how the experiment reads its tokens."""
    sample, *others = bench_of(name).single
    assert sample is not None
    sample = torch.randn_like(sample, requires_grad=True)
    network = bench_of(name).make(attention).network
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.1)
    answer = network.eval()(sample, *others)
    (answer if isinstance(answer, Tensor) else answer.point).square().sum().backward()
    assert sample.grad is not None
    assert (sample.grad != 0).float().mean() > 0.99

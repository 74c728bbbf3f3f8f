"""Dropout by 16 random bits an element is a true dropout: its rate, its scaling, independence, the same gradient."""

import pytest
import torch
from torch import nn

from core import Dropout, Encoder

SIZE = 4_000_000


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_rate_and_scaling(p):
    torch.manual_seed(0)
    dropped = Dropout(p)(torch.ones(SIZE))
    kept = dropped != 0
    spread = (p * (1 - p) / SIZE) ** 0.5
    assert abs(kept.float().mean() - (1 - p)) < 5 * spread + 2**-16
    torch.testing.assert_close(dropped[kept], torch.full_like(dropped[kept], 1 / (1 - p)), rtol=1e-3, atol=0)
    assert abs(dropped.mean() - 1) < 5 * spread / (1 - p)


@pytest.mark.parametrize("p", [0.3, 0.5])
def test_every_place_in_a_draw_has_the_same_rate_and_knows_nothing_of_its_neighbours(p):
    """Four elements share a draw of 64 bits."""
    torch.manual_seed(1)
    kept = (Dropout(p)(torch.ones(SIZE)) != 0).double().view(-1, 4)
    spread = (p * (1 - p) / len(kept)) ** 0.5
    assert ((kept.mean(0) - (1 - p)).abs() < 5 * spread + 2**-16).all()
    correlation = torch.corrcoef(kept.T) - torch.eye(4)
    assert correlation.abs().max() < 5 / len(kept) ** 0.5


def test_the_gradient_passes_where_the_value_did():
    torch.manual_seed(0)
    x = torch.randn(7, 33, requires_grad=True)
    out = Dropout(0.4)(x)
    out.sum().backward()
    torch.testing.assert_close(x.grad * x, out)


def test_seeds_decide_and_draws_differ():
    x, dropout = torch.ones(1000), Dropout(0.5)
    torch.manual_seed(3)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(3)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_all_or_nothing(p):
    assert torch.equal(Dropout(p)(torch.ones(9)), torch.full((9,), 1 - p))


def test_evaluation_and_other_precisions_are_torchs():
    x = torch.randn(5, 5)
    assert Dropout(0.5).eval()(x) is x
    torch.manual_seed(0)
    ours = Dropout(0.5)(x.double())
    torch.manual_seed(0)
    assert torch.equal(ours, nn.Dropout(0.5)(x.double()))


def test_the_core_has_no_other():
    kinds = {type(module) for module in Encoder(8, 2, 1, dropout=0.1).modules() if isinstance(module, nn.Dropout)}
    assert kinds == {Dropout}

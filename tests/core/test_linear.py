"""The linear map of projections: torch.nn.Linear's numbers, whichever way the product is computed."""

import pytest
import torch
from torch import nn

from core import Linear
from core.linear import FEW, linear

SIZES = [(4, 7), (7, 4), (5, 5)]


@pytest.mark.parametrize("rows", [1, 2, FEW, FEW + 1])
@pytest.mark.parametrize(("in_features", "out_features"), SIZES)
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_torch_nn_linear_for_few_rows_and_many(rows, in_features, out_features, bias):
    torch.manual_seed(0)
    ours, theirs = (kind(in_features, out_features, bias=bias).double() for kind in (Linear, nn.Linear))
    ours.load_state_dict(theirs.state_dict())
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = torch.randn(rows, 1, in_features, dtype=dtype)
        with torch.no_grad():
            output, expected = ours.to(dtype)(x), theirs.to(dtype)(x)
        torch.testing.assert_close(output, expected)
        assert output.is_contiguous()


def test_few_rows_that_need_a_gradient_get_it():
    layer, x = Linear(3, 9), torch.randn(2, 3, requires_grad=True)
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(2, 3))


def test_no_rows_are_no_rows():
    with torch.no_grad():
        assert linear(torch.empty(2, 0, 3), torch.randn(9, 3)).shape == (2, 0, 9)


@pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 3, 4)])
def test_a_token_alone_is_a_row_too(shape):
    layer, x = Linear(4, 8), torch.randn(shape)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


def test_autocast_chooses_the_type_for_few_rows_too():
    layer, x = Linear(4, 8), torch.randn(2, 4)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16

"""The linear map of projections: torch.nn.Linear's numbers, whichever way the product is computed."""

import pytest
import torch
from torch import nn

import core.linear
from core import Linear
from core.linear import FEW, linear
from tests.core.helpers import normal

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


@pytest.mark.skipif(not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this torch has no oneDNN")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(FEW + 1, 6), (2, FEW, 6), (FEW, 2, 3, 6)])
def test_the_product_of_onednn_has_the_same_values_and_gradients_of_gradients(shape, bias, monkeypatch):
    x, weight, bias = normal(*shape), normal(5, 6, seed=2), normal(5, seed=3) if bias else None
    inputs = [tensor.requires_grad_() for tensor in (x, weight, bias) if tensor is not None]
    results = []
    for preferred in (True, False):
        monkeypatch.setattr(core.linear, "prefers_onednn", lambda preferred=preferred: preferred)
        output = linear(x.transpose(0, -2), weight, bias)
        assert ("OneDNN" in type(output.grad_fn).__name__) == preferred
        gradients = torch.autograd.grad((output**2).sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum((gradient**2).sum() for gradient in gradients), inputs)
        results.append([output, *gradients, *second])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


def test_what_torch_traces_transforms_or_casts_is_served(monkeypatch):
    monkeypatch.setattr(core.linear, "prefers_onednn", lambda: hasattr(torch.ops.mkldnn, "_linear_pointwise"))
    layer, x = Linear(4, 8), torch.randn(FEW + 1, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    gradient = torch.func.grad(lambda weight: linear(x, weight).sum())(layer.weight.detach())
    torch.testing.assert_close(gradient, x.sum(0).expand(8, 4))

"""The linear map of a Transformer's projections, by whichever of torch's products is the fastest on this processor."""

from collections.abc import Sequence
from functools import cache
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

_ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
FEW = 8
"""Rows up to which a processor's product is faster the other way round."""


class Linear(nn.Linear):
    """`y = x W^T + b`, the same as `torch.nn.Linear`, whose arguments, parameters and numbers it has.

    On a processor it may be faster (see `docs/LOG.md`), and rounds otherwise: without gradients and for a few rows
    `(W x^T)^T` is computed where W widens; for more rows in float32 on an AMD processor, the product is oneDNN's.
    """

    def forward(
        self,
        input: Float[Tensor, "*rows in_features"],  # noqa: A002 - the name that torch.nn.Linear gives it
    ) -> Float[Tensor, "*rows out_features"]:
        return linear(input, self.weight, self.bias)


def linear(
    x: Float[Tensor, "*rows in_features"],
    weight: Float[Tensor, "out_features in_features"],
    bias: Float[Tensor, " out_features"] | None = None,
) -> Float[Tensor, "*rows out_features"]:
    """`x W^T + b`, as `Linear` computes it."""
    rows = x.numel() // max(x.shape[-1], 1)
    if torch.compiler.is_compiling() or x.device.type != "cpu" or x.dtype != torch.float32 or not rows:
        return F.linear(x, weight, bias)
    if rows > FEW:
        if prefers_onednn() and weight.dtype == x.dtype and not torch.is_autocast_enabled("cpu"):
            return _OneDNN.apply(x, weight, bias)
    elif not torch.is_grad_enabled() and weight.shape[0] > weight.shape[1]:
        return _turned(x, weight, bias)
    return F.linear(x, weight, bias)


def _turned(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows = x.reshape(-1, x.shape[-1])
    columns = (rows if len(rows) > 1 else rows.repeat(2, 1)).t()  # a single column is a product of another, slow kind
    product = weight @ columns if bias is None else torch.addmm(bias[:, None], weight, columns)
    return product[:, : len(rows)].t().contiguous().view(*x.shape[:-1], -1)


@cache
def prefers_onednn() -> bool:
    """Whether this processor's products are faster by oneDNN than by MKL, which `torch.nn.functional.linear` asks.

    MKL has its best for Intel alone; of oneDNN's product torch makes no use in float32 unless it compiles.
    """
    name = getattr(torch.cpu, "get_capabilities", dict)().get("cpu_name", "")
    return "AMD" in str(name) and _ONEDNN is not None and torch.backends.mkl.is_available()


def _count_operations(x_shape: Sequence[int], weight_shape: Sequence[int], *_: object, **__: object) -> int:
    return 2 * prod(x_shape) * weight_shape[0]


if _ONEDNN is not None:  # torch's counter knows this only of what was registered before it was made
    register_flop_formula(_ONEDNN)(_count_operations)


class _OneDNN(torch.autograd.Function):
    """`x W^T + b` by oneDNN; its gradients are such products too, and so have gradients of their own."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        assert _ONEDNN is not None
        return _ONEDNN(x, weight, bias, "none", [], "")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:  # noqa: ARG004 - as torch calls it
        x, weight, bias = inputs
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        rows = grad.flatten(0, -2)
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            _OneDNN.apply(grad, weight.t(), None) if needs_x else None,
            _weight_gradient(x.flatten(0, -2), rows) if needs_weight else None,
            rows.sum(0) if ctx.has_bias and needs_bias else None,
        )


def _weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """`grad^T x`, or its transpose turned: with many rows up to 2.7 times as fast where the wider one comes second."""
    if grad.shape[1] > x.shape[1]:
        return _OneDNN.apply(x.t(), grad.t(), None).t()
    return _OneDNN.apply(grad.t(), x.t(), None)

"""Full attention of short sequences with narrow heads, by batched products: on a processor SDPA is slow at these."""

from typing import Any

import torch
from torch import Tensor

from core.types import HeadKeys, HeadQueries

WIDEST = 8
"""Channels of a head up to which this is faster than SDPA, whose products are made for wide ones."""
LENGTHS = range(16, 129)
"""Numbers of keys at which it is."""
CHUNK = 2**17
"""Attention weights that are computed together, for each thread, so that they stay in the processor's cache."""


def is_short(q: HeadQueries, k: HeadKeys) -> bool:
    """Whether these are better attended to by `short_attention`."""
    if torch.compiler.is_compiling():  # first: a look at a length would bind the graph to it
        return False
    return (
        q.device.type == "cpu"
        and q.dtype == torch.float32
        and q.shape[3] <= WIDEST
        and q.shape[2] in LENGTHS
        and k.shape[2] in LENGTHS
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()  # these know SDPA's gradients, not those made here
    )


def short_attention(q: HeadQueries, k: HeadKeys, v: HeadKeys) -> HeadQueries:
    """`softmax(q k^T / sqrt(head_dim)) v`; the weights are kept for the backward pass."""
    return _ShortAttention.apply(q, k, v)


class _ShortAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        q, k, v = (x.reshape(-1, *x.shape[2:]) for x in args)
        weights = q.new_empty(len(q), q.shape[1], k.shape[1])
        out, scale = torch.empty_like(q), q.shape[2] ** -0.5
        for rows in _chunks(weights):
            _product(q[rows], k[rows].transpose(1, 2), scale, weights[rows])
            torch.softmax(weights[rows], -1, out=weights[rows])
            torch.bmm(weights[rows], v[rows], out=out[rows])
        ctx.save_for_backward(q, k, v, weights)
        return out.view(args[0].shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, weights = ctx.saved_tensors
        batch, heads = grads[0].shape[:2]
        grad, scale = grads[0].reshape(q.shape), q.shape[2] ** -0.5
        # Those of keys and values are made turned: `(grad^T weights)^T` is faster than `weights^T grad`.
        grad_q, grad_k, grad_v = torch.empty_like(q), _turned(k), _turned(v)
        for rows in _chunks(weights):
            torch.bmm(grad[rows].transpose(1, 2), weights[rows], out=grad_v[rows])
            by_weight = torch.bmm(grad[rows], v[rows].transpose(1, 2))
            by_score = torch.ops.aten._softmax_backward_data(by_weight, weights[rows], -1, weights.dtype)
            _product(by_score, k[rows], scale, grad_q[rows])
            _product(q[rows].transpose(1, 2), by_score, scale, grad_k[rows])
        gradients = grad_q, grad_k.transpose(1, 2), grad_v.transpose(1, 2)
        return tuple(x.unflatten(0, (batch, heads)) for x in gradients)  # pyright: ignore[reportReturnType]


def _chunks(weights: Tensor) -> list[slice]:
    rows = max(1, CHUNK * torch.get_num_threads() // (weights.shape[1] * weights.shape[2]))
    return [slice(first, first + rows) for first in range(0, len(weights), rows)]


def _product(a: Tensor, b: Tensor, scale: float, out: Tensor) -> None:
    torch.baddbmm(out, a, b, beta=0, alpha=scale, out=out)


def _turned(x: Tensor) -> Tensor:
    return x.new_empty(len(x), x.shape[2], x.shape[1])

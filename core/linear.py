"""The linear map of a Transformer's projections, fast on few tokens too, as decoding has them."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

FEW = 8
"""Rows up to which a processor's product is faster the other way round."""


class Linear(nn.Linear):
    """`y = x W^T + b`, the same as `torch.nn.Linear`, whose arguments, parameters and numbers it has.

    On a processor, without gradients and for a few rows, `(W x^T)^T` is computed where W widens: up to four times as
    fast as the product that `torch.nn.Linear` asks for (see `docs/LOG.md`).
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
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or not _is_few(x, weight):
        return F.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    columns = (rows if len(rows) > 1 else rows.repeat(2, 1)).t()  # a single column is a product of another, slow kind
    product = weight @ columns if bias is None else torch.addmm(bias[:, None], weight, columns)
    return product[:, : len(rows)].t().contiguous().view(*x.shape[:-1], -1)


def _is_few(x: Tensor, weight: Tensor) -> bool:
    """Whether the product is one of those that are faster the other way round."""
    (out_features, in_features), rows = weight.shape, x.numel() // max(x.shape[-1], 1)
    return x.device.type == "cpu" and x.dtype == torch.float32 and 0 < rows <= FEW and out_features > in_features

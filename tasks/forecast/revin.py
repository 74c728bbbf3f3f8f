"""Reversible instance normalisation: a forecast in the level and spread of its own history (Kim et al. 2022)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

Past = Float[Tensor, "batch context channels"]
PastMask = Bool[Tensor, "batch context channels"]
Statistic = Float[Tensor, "batch 1 channels"]

CONSTANT = 1e-6
"""Spread, relative to the level, below which a history is constant as far as single precision can tell."""


class RevIN(nn.Module):
    """Takes each sample's own mean and standard deviation out of its history, channel by channel (Kim et al. 2022).

    `x = exp(g) (past - mean) / sqrt(var + eps) + b`, with g = b = 0 unless `affine`; the inverse is `y * scale + loc`,
    with the `scale` and `loc` that come with `x`. Mean and variance are those of the observed steps. A history that is
    constant, or of which nothing was observed, gives zeros and the scale 0: the forecast is its mean, or 0.

    Args:
        num_channels: Channels of the series.
        affine: Whether each channel has a learned g and b.
        eps: Added to the variance, in squared units of the series.
    """

    def __init__(self, num_channels: int, *, affine: bool = False, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.log_weight = nn.Parameter(torch.zeros(num_channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_channels)) if affine else None

    def forward(self, past: Past, past_mask: PastMask | None = None) -> tuple[Past, Statistic, Statistic]:
        """Gives the normalised history, 0 where it is missing, and the `loc` and `scale` of the inverse.

        Args:
            past: The history.
            past_mask: True = missing; nothing is if not given.
        """
        if past_mask is None:
            loc = past.mean(1, keepdim=True)
            x = past - loc
            var = x.square().mean(1, keepdim=True)
        else:
            count = (~past_mask).sum(1, keepdim=True).clamp(min=1)
            loc = past.masked_fill(past_mask, 0.0).sum(1, keepdim=True) / count
            x = (past - loc).masked_fill(past_mask, 0.0)
            var = x.square().sum(1, keepdim=True) / count
        varies = var > (CONSTANT * loc).square()
        scale = (var + self.eps).sqrt()
        x, scale = x / scale * varies, scale * varies
        if self.log_weight is None or self.bias is None:
            return x, loc, scale
        weight = self.log_weight.exp()
        x = x * weight + self.bias
        return (
            x if past_mask is None else x.masked_fill(past_mask, 0.0),
            loc - self.bias / weight * scale,
            scale / weight,
        )

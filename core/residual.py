"""The residual connection around a sublayer: where the norm stands, and what is dropped or scaled on the branch."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from core.dropout import Dropout
from core.packing import Packing
from core.types import Tokens


class StochasticDepth(nn.Module):
    """Drops a sample's whole branch with probability `p` in training (Huang et al. 2016, "Deep Networks with
    Stochastic Depth").

    Kept branches are divided by `1 - p`, so that the expectation is that of evaluation, where nothing is dropped.

    Args:
        p: Probability that a sample loses its branch.

    Raises:
        ValueError: If `p` is not in [0, 1).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"stochastic depth p={p} is not a probability in [0, 1)")
        self.p = p

    def forward(self, x: Tokens, packing: Packing | None = None) -> Tokens:
        if not self.training or self.p == 0:
            return x
        samples = x.shape[0] if packing is None else len(packing.lengths)
        keep = torch.empty(samples, 1, 1, dtype=x.dtype, device=x.device).bernoulli_(1 - self.p) / (1 - self.p)
        return x * (keep if packing is None else packing.repeat(keep[:, 0]))

    def extra_repr(self) -> str:
        return f"p={self.p}"


class LayerScale(nn.Module):
    """Multiplies each channel of the branch by a learned weight that starts near zero (Touvron et al. 2021,
    "Going deeper with Image Transformers").

    Args:
        embed_dim: Width of a token.
        init: Initial value of every weight, 1e-5 or so.
    """

    def __init__(self, embed_dim: int, init: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((embed_dim,), init))

    def forward(self, x: Tokens) -> Tokens:
        return x * self.weight


class Residual(nn.Module):
    """`x + branch(norm(x))` (pre-norm, Xiong et al. 2020) or `norm(x + branch(x))` (post-norm, Vaswani et al. 2017).

    The branch is the sublayer followed by dropout, LayerScale and stochastic depth.

    Args:
        embed_dim: Width of a token.
        norm_first: Pre-norm if true, post-norm otherwise.
        dropout: Probability with which an element of the branch is dropped in training.
        drop_path: Probability with which a sample loses the whole branch in training.
        layer_scale: Initial value of LayerScale; None = no LayerScale.
        norm: Makes the norm from `embed_dim`.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        norm_first: bool = True,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.norm = norm(embed_dim)
        self.dropout = Dropout(dropout)
        self.layer_scale = nn.Identity() if layer_scale is None else LayerScale(embed_dim, layer_scale)
        self.drop_path = StochasticDepth(drop_path)

    def forward(self, x: Tokens, sublayer: Callable[[Tensor], Tensor], packing: Packing | None = None) -> Tokens:
        """Adds the branch; `packing` says which tokens are of one sample where they are packed."""
        branch = sublayer(self.norm(x) if self.norm_first else x)
        x = x + self.drop_path(self.layer_scale(self.dropout(branch)), packing)
        return x if self.norm_first else self.norm(x)


def run_layer(layer: Callable[[Tensor], Tensor], x: Tensor, *, checkpointed: bool) -> Tensor:
    """Calls a layer; where `checkpointed`, its activations are computed again in the backward pass (Chen et al. 2016,
    "Training Deep Nets with Sublinear Memory Cost").
    """
    if checkpointed and torch.is_grad_enabled():
        return checkpoint(layer, x, use_reentrant=False)
    return layer(x)

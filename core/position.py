"""Positional encodings: sinusoidal (1-D, 2-D), learned (1-D, 2-D), rotary, and the resampling of learned grids."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

Offset = int | Int[Tensor, " batch"]
"""The first position: one number, or one a sequence."""


class SinusoidalPositionalEncoding(nn.Module):
    """Sines and cosines of the position (Vaswani et al. 2017, section 3.5).

    `PE(pos, 2i) = sin(pos / base^(2i / d))` and `PE(pos, 2i + 1) = cos(pos / base^(2i / d))`; d is `embed_dim`, the
    paper's base is 10,000. Computed for the positions asked for, so that there is no longest length.

    Args:
        embed_dim: Width of the encoding, even.
        base: Ratio of the longest wavelength to the shortest.

    Raises:
        ValueError: If `embed_dim` is odd.

    >>> SinusoidalPositionalEncoding(4)(1).tolist()
    [[0.0, 1.0, 0.0, 1.0]]
    """

    like: Tensor

    def __init__(self, embed_dim: int, *, base: float = 10_000.0) -> None:
        super().__init__()
        if embed_dim % 2:
            raise ValueError(f"embed_dim={embed_dim} is odd; a sinusoidal encoding pairs each sine with a cosine")
        self.embed_dim = embed_dim
        self.base = base
        self.register_buffer("like", torch.empty(0), persistent=False)  # follows the model's device and precision

    def forward(self, length: int, *, offset: Offset = 0) -> Float[Tensor, "*batch length embed_dim"]:
        """Encodes the positions `offset` to `offset + length - 1`, for each sequence where the offsets differ."""
        positions = torch.arange(length, dtype=torch.float32, device=self.like.device)
        positions = positions + (offset if isinstance(offset, int) else offset[:, None])
        return sines_and_cosines(positions, self.embed_dim, self.base).to(self.like.dtype)


class SinusoidalPositionalEncoding2d(nn.Module):
    """Sinusoidal encoding of row and column over padded images (DETR; Carion et al. 2020, Parmar et al. 2018).

    The first half of the channels encodes the row, the second the column, each as `SinusoidalPositionalEncoding`.
    Rows and columns are counted from 1 over the real part of each image and, as in DETR, scaled by the image's own
    height and width to (0, `scale`].

    Args:
        embed_dim: Width of the encoding, a multiple of 4.
        base: Ratio of the longest wavelength to the shortest.
        scale: Value that the last real row and column get, in radians; None leaves them unscaled.

    Raises:
        ValueError: If `embed_dim` is not a multiple of 4.
    """

    like: Tensor

    def __init__(self, embed_dim: int, *, base: float = 10_000.0, scale: float | None = 2 * math.pi) -> None:
        super().__init__()
        if embed_dim % 4:
            raise ValueError(f"embed_dim={embed_dim} is not a multiple of 4: sine and cosine of row and column")
        self.embed_dim = embed_dim
        self.base = base
        self.scale = scale
        self.register_buffer("like", torch.empty(0), persistent=False)  # follows the model's device and precision

    def forward(
        self, padding_mask: Bool[Tensor, "batch height width"]
    ) -> Float[Tensor, "batch height width embed_dim"]:
        """Encodes each pixel.

        Args:
            padding_mask: True = padding; an image's real part is a rectangle at the upper left.
        """
        real = (~padding_mask).float()
        rows, columns = real.cumsum(1), real.cumsum(2)
        if self.scale is not None:
            rows = rows / (rows[:, -1:, :] + 1e-6) * self.scale
            columns = columns / (columns[:, :, -1:] + 1e-6) * self.scale
        halves = [sines_and_cosines(places, self.embed_dim // 2, self.base) for places in (rows, columns)]
        return torch.cat(halves, dim=-1).to(self.like.dtype)


class LearnedPositionalEncoding(nn.Module):
    """A learned vector for each position of a sequence (Gehring et al. 2017, Devlin et al. 2019).

    Args:
        embed_dim: Width of the encoding.
        num_positions: Number of positions.
    """

    def __init__(self, embed_dim: int, *, num_positions: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_positions, embed_dim))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, length: int, *, offset: Offset = 0) -> Float[Tensor, "*batch length embed_dim"]:
        """Encodes the positions `offset` to `offset + length - 1`, for each sequence where the offsets differ.

        Raises:
            ValueError: If one of them lies before the first learned position or beyond the last.
        """
        first, last = (offset, offset) if isinstance(offset, int) else (int(offset.min()), int(offset.max()))
        if first < 0:
            raise ValueError(f"offset={first} must not be negative")
        if last + length > len(self.weight):
            raise ValueError(
                f"position {last + length - 1} was asked for, but only 0 to {len(self.weight) - 1} are learned "
                f"(num_positions={len(self.weight)})"
            )
        if isinstance(offset, int):
            return self.weight[offset : offset + length]
        return self.weight[offset[:, None] + torch.arange(length, device=offset.device)]


class RotaryPositionalEncoding(nn.Module):
    """Turns queries and keys by their position, so that their product knows only the distance (RoFormer; Su et al.
    2021, section 3.2).

    The channels 2i and 2i + 1 of a token at position m are turned by the angle `m * base^(-2i / d)`; d is `head_dim`,
    the paper's base is 10,000. No parameters and no longest length.

    Args:
        head_dim: Width of a token inside a head, even.
        base: Ratio of the longest wavelength to the shortest.

    Raises:
        ValueError: If `head_dim` is odd.

    >>> RotaryPositionalEncoding(2)(torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[0]])).tolist()
    [[[[1.0, 0.0]]]]
    """

    def __init__(self, head_dim: int, *, base: float = 10_000.0) -> None:
        super().__init__()
        if head_dim % 2:
            raise ValueError(f"head_dim={head_dim} is odd; rotary encoding turns channels in pairs")
        self.head_dim = head_dim
        self.base = base

    def forward(
        self, x: Float[Tensor, "batch heads length head_dim"], positions: Int[Tensor, "#batch length"]
    ) -> Float[Tensor, "batch heads length head_dim"]:
        """Turns `x`, queries or keys, by the positions of its tokens."""
        angles = positions[:, :, None, None].float() * _frequencies(self.head_dim, self.base, x.device)
        sin, cos = angles.sin(), angles.cos()
        # As (batch, length, heads, head_dim), which is how a projection's tokens lie: in another order than that of
        # the values, fused kernels copy gradients.
        even, odd = x.transpose(1, 2).unflatten(-1, (-1, 2)).unbind(-1)
        turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
        return turned.flatten(-2).to(x.dtype).transpose(1, 2)


class LearnedPositionalEncoding2d(nn.Module):
    """A learned vector for each cell of a grid, row by row (Dosovitskiy et al. 2021, section 3.1).

    Another grid than the learned one gets the learned vectors resampled: positions are then relative to the picture's
    extent (Dosovitskiy et al. 2021, section 3.2).

    Args:
        grid_size: Rows and columns.
        embed_dim: Width of the encoding.
    """

    def __init__(self, grid_size: tuple[int, int], embed_dim: int) -> None:
        super().__init__()
        self.grid_size = grid_size
        self.weight = nn.Parameter(torch.empty(grid_size[0] * grid_size[1], embed_dim))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, grid_size: tuple[int, int]) -> Float[Tensor, "cells embed_dim"]:
        """Encodes the cells of a grid of `grid_size`; exactly the learned vectors where the grid is the learned one."""
        return resample_grid(self.weight, self.grid_size, grid_size)


def resample_grid(
    weight: Float[Tensor, "old_cells embed_dim"], old: tuple[int, int], new: tuple[int, int]
) -> Float[Tensor, "new_cells embed_dim"]:
    """Resamples encodings of a grid to another grid: bicubic, with antialiasing when it shrinks.

    Args:
        weight: A vector for each cell of the old grid, row by row.
        old: Rows and columns of the old grid.
        new: Rows and columns of the new grid.

    Raises:
        ValueError: If `weight` does not have a vector for each cell of `old`.
    """
    if len(weight) != old[0] * old[1]:
        raise ValueError(f"a grid of {old[0]} x {old[1]} needs {old[0] * old[1]} encodings, got {len(weight)}")
    if not torch.compiler.is_compiling() and old == new:  # what is compiled or exported shall serve every size
        return weight
    image = weight.float().view(1, *old, -1).permute(0, 3, 1, 2)
    image = F.interpolate(image, size=new, mode="bicubic", antialias=True, align_corners=False)
    return image.flatten(2)[0].T.to(weight.dtype)


def sines_and_cosines(
    positions: Float[Tensor, "*shape"], embed_dim: int, base: float
) -> Float[Tensor, "*shape embed_dim"]:
    """Float32 whatever the model's precision: bfloat16 cannot count beyond 256."""
    angles = positions.unsqueeze(-1) * _frequencies(embed_dim, base, positions.device)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


def _frequencies(width: int, base: float, device: torch.device) -> Float[Tensor, " half_width"]:
    return base ** (-torch.arange(0, width, 2, dtype=torch.float32, device=device) / width)

"""Convolutions over time that make a sequence of features shorter, with exact lengths."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from core.masks import padding_mask
from tasks.asr.features import Features, Lengths


class ConvBlock(nn.Module):
    """`x + GELU(convolution(norm(x)))` over time: how a frame sounds among its neighbours.

    Args:
        width: Width of a frame.
        kernel_size: Frames that the convolution sees, odd.
    """

    def __init__(self, width: int, kernel_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, kernel_size, padding=kernel_size // 2)

    def forward(
        self, x: Float[Tensor, "batch frames width"], padding: Bool[Tensor, "batch frames 1"]
    ) -> Float[Tensor, "batch frames width"]:
        """Zeros in padding, before the convolution and behind."""
        branch = self.norm(x).masked_fill(padding, 0.0).transpose(1, 2)
        return x + F.gelu(self.conv(branch)).transpose(1, 2).masked_fill(padding, 0.0)


class ConvSubsampling(nn.Module):
    """Stages of a convolution over time and a GELU: each divides the frames by its stride, rounding up.

    One-dimensional, as in Speech2Text (Wang et al. 2020) and Whisper: on a processor a third of the time of
    two-dimensional ones of 32 channels. Padding is zeroed before every convolution, so that what an utterance becomes
    is the same alone and in a batch of longer ones.

    Args:
        num_features: Features of a frame.
        embed_dim: Width of what comes out.
        channels: Width between the stages; `embed_dim` if not given.
        strides: Of each stage; their product is how many frames become one. Whisper's stem has (1, 2).
        num_blocks: Residual blocks behind the stages, at the frames that are left (`ConvBlock`): with little data they
            learn what neighbours are sooner than attention does.
        kernel_size: Frames that a convolution sees, odd.

    Raises:
        ValueError: If there are no `strides`, one is less than 1, `num_blocks` is negative, or `kernel_size` is even.
    """

    def __init__(
        self,
        num_features: int,
        embed_dim: int,
        *,
        channels: int | None = None,
        strides: Sequence[int] = (2, 2),
        num_blocks: int = 0,
        kernel_size: int = 5,
    ) -> None:
        super().__init__()
        if min(strides, default=0) < 1:
            raise ValueError(f"strides={list(strides)} must be one number or more, each at least 1")
        if num_blocks < 0:
            raise ValueError(f"num_blocks={num_blocks} must not be negative")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be odd, so that a frame has as much before as after it")
        widths = [num_features, *[embed_dim if channels is None else channels] * (len(strides) - 1), embed_dim]
        self.strides = tuple(strides)
        self.factor = math.prod(strides)
        self.stages = nn.ModuleList(
            nn.Conv1d(before, after, kernel_size, stride=stride, padding=kernel_size // 2)
            for (before, after), stride in zip(pairwise(widths), strides, strict=True)
        )
        self.blocks = nn.ModuleList(ConvBlock(embed_dim, kernel_size) for _ in range(num_blocks))

    def lengths(self, lengths: Lengths) -> Lengths:
        """What is left of so many frames."""
        return (lengths + self.factor - 1) // self.factor

    def forward(self, x: Features, lengths: Lengths) -> tuple[Float[Tensor, "batch shorter embed_dim"], Lengths]:
        """Gives the shorter sequences, zeros in padding, and their lengths."""
        if not x.shape[1]:
            return x.new_zeros(len(x), 0, self.stages[-1].weight.shape[0]), lengths  # pyright: ignore
        x = x.transpose(1, 2)
        x = x.masked_fill(padding_mask(lengths, x.shape[2])[:, None], 0.0)
        for stage, stride in zip(self.stages, self.strides, strict=True):
            lengths = (lengths + stride - 1) // stride
            x = F.gelu(stage(x))
            x = x.masked_fill(padding_mask(lengths, x.shape[2])[:, None], 0.0)
        x = x.transpose(1, 2)
        padding = padding_mask(lengths, x.shape[1])[..., None]
        for block in self.blocks:
            x = block(x, padding)
        return x, lengths

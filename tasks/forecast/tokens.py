"""What the tokens of a multivariate series are: patches of a channel, steps of time, or whole channels."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from core import Dropout, LearnedPositionalEncoding, Linear, SinusoidalPositionalEncoding
from tasks.forecast.revin import Past, PastMask

Covariates = Float[Tensor, "batch steps covariates"]
SequenceTokens = Float[Tensor, "sequences length embed_dim"]
SequenceMask = Bool[Tensor, "sequences length"]


class SeriesShape(NamedTuple):
    """Sizes of what is forecast, in steps and in numbers of channels."""

    context_length: int
    prediction_length: int
    num_channels: int
    num_covariates: int = 0


class Tokenization(ABC, nn.Module):
    """Makes tokens of a history, and the features of each forecast from the encoded tokens.

    Attributes:
        num_features: Width of the features of each forecast.
        channels_each: Channels that are forecast together from the same features.
        token_steps: The first and the last step of the history that each token covers, those of the future left out;
            None where a token is no stretch of time.
    """

    num_features: int
    channels_each: int
    token_steps: list[tuple[int, int]] | None

    @abstractmethod
    def forward(
        self, x: Past, past_mask: PastMask | None, covariates: Covariates | None
    ) -> tuple[SequenceTokens, SequenceMask | None]:
        """Makes the tokens of each sequence, and the mask of those of which nothing was observed.

        Args:
            x: The normalised history, 0 where it is missing.
            past_mask: True = missing; nothing is if not given.
            covariates: What is known of the history's steps and the future's.
        """

    def gather(self, encoded: SequenceTokens) -> Float[Tensor, "forecasts features"]:
        """The features of each forecast: all tokens of its sequence, side by side."""
        return encoded.flatten(1)


class PatchTokens(Tokenization):
    """Patches of each channel by itself (PatchTST; Nie et al. 2023): a sequence a channel, weights shared by all.

    Patches end with the history's last step; steps that fill no whole patch are left out at its beginning. Covariates
    join the patches of their steps, and are the only content of further patches, those of the future.

    Args:
        shape: Sizes of what is forecast.
        embed_dim: Width of a token.
        patch_length: Steps of a patch.
        stride: Steps from one patch to the next; the patch's own length if not given.
        padding: How often the last step is repeated at the end before the cut, as in the original by its stride.
        dropout: Probability of dropping an element of a token in training.

    Raises:
        ValueError: If a number is out of its range, or a patch longer than the history.
    """

    channels_each = 1

    def __init__(
        self,
        shape: SeriesShape,
        embed_dim: int,
        *,
        patch_length: int = 16,
        stride: int | None = None,
        padding: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        stride = patch_length if stride is None else stride
        length = shape.context_length + padding
        if not 1 <= patch_length <= length:
            raise ValueError(
                f"patch_length={patch_length} is not between 1 and context_length={shape.context_length} "
                f"with padding={padding}"
            )
        if stride < 1 or padding < 0:
            raise ValueError(f"stride={stride} must be at least 1 and padding={padding} not negative")
        self.patch_length, self.stride, self.padding = patch_length, stride, padding
        self.num_past = (length - patch_length) // stride + 1
        self.start = length - (self.num_past - 1) * stride - patch_length
        self.num_future = -(-shape.prediction_length // stride) if shape.num_covariates else 0
        last = shape.context_length - 1
        starts = range(self.start, self.start + self.num_past * stride, stride)
        self.token_steps = [(first, min(first + patch_length - 1, last)) for first in starts]
        self.embedding = Linear(patch_length, embed_dim)
        self.covariate_embedding = (
            Linear(patch_length * shape.num_covariates, embed_dim, bias=False) if shape.num_covariates else None
        )
        self.position = LearnedPositionalEncoding(embed_dim, num_positions=self.num_past + self.num_future)
        self.dropout = Dropout(dropout)
        self.num_features = (self.num_past + self.num_future) * embed_dim
        self.shape = shape

    def forward(
        self, x: Past, past_mask: PastMask | None, covariates: Covariates | None
    ) -> tuple[SequenceTokens, SequenceMask | None]:
        tokens = self.embedding(self._patches(x.transpose(1, 2)))  # (batch, channels, patches, embed_dim)
        mask = None
        if past_mask is not None:
            mask = self._patches(past_mask.transpose(1, 2)).all(-1)
            tokens = tokens.masked_fill(mask[..., None], 0.0)
        if self.covariate_embedding is not None and covariates is not None:
            known = self.covariate_embedding(self._covariate_patches(covariates))[:, None]
            tokens = F.pad(tokens, (0, 0, 0, self.num_future)) + known
            mask = None  # every patch has something known
        tokens = self.dropout(tokens + self.position(tokens.shape[2]))
        return tokens.flatten(0, 1), None if mask is None else mask.flatten(0, 1)

    def _patches(self, series: Tensor) -> Tensor:
        """Cuts (..., context) into (..., patches, patch_length)."""
        if self.padding:
            series = torch.cat([series, series[..., -1:].expand(*series.shape[:-1], self.padding)], dim=-1)
        return series[..., self.start :].unfold(-1, self.patch_length, self.stride)

    def _covariate_patches(self, covariates: Covariates) -> Float[Tensor, "batch patches content"]:
        """The patches of the past, then those of the future, each of which ends with its own `stride` steps."""
        context, after = self.shape.context_length, self.num_future * self.stride - self.shape.prediction_length
        past = self._patches(covariates[:, :context].transpose(1, 2))
        overlap = self.patch_length - self.stride
        future = F.pad(covariates[:, context - overlap :].transpose(1, 2), (0, after), mode="replicate")
        future = future.unfold(-1, self.patch_length, self.stride)
        return torch.cat([past, future], dim=2).transpose(1, 2).flatten(2)


class ChannelTokens(Tokenization):
    """A token a channel, its whole history (iTransformer; Liu et al. 2024): attention mixes channels, not time.

    A covariate is a token as well, its history and its future.

    Args:
        shape: Sizes of what is forecast.
        embed_dim: Width of a token.
        dropout: Probability of dropping an element of a token in training.
    """

    channels_each = 1
    token_steps = None

    def __init__(self, shape: SeriesShape, embed_dim: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_channels = shape.num_channels
        self.embedding = Linear(shape.context_length, embed_dim)
        steps = shape.context_length + shape.prediction_length
        self.covariate_embedding = Linear(steps, embed_dim) if shape.num_covariates else None
        self.dropout = Dropout(dropout)
        self.num_features = embed_dim

    def forward(
        self, x: Past, past_mask: PastMask | None, covariates: Covariates | None
    ) -> tuple[SequenceTokens, SequenceMask | None]:
        tokens = self.embedding(x.transpose(1, 2))
        mask = None if past_mask is None else past_mask.all(1)
        if self.covariate_embedding is not None and covariates is not None:
            tokens = torch.cat([tokens, self.covariate_embedding(covariates.transpose(1, 2))], dim=1)
            mask = None if mask is None else F.pad(mask, (0, covariates.shape[2]))
        return self.dropout(tokens), mask

    def gather(self, encoded: SequenceTokens) -> Float[Tensor, "forecasts features"]:
        return encoded[:, : self.num_channels].flatten(0, 1)


class StepTokens(Tokenization):
    """A token a step of time, all channels together: the plain Transformer of a series (as in Informer; Zhou et al.
    2021). Made for a decoder; without one a single linear map reads all tokens.

    Covariates join the token of their step, and are the only content of those of the future.

    Args:
        shape: Sizes of what is forecast.
        embed_dim: Width of a token.
        dropout: Probability of dropping an element of a token in training.
    """

    def __init__(self, shape: SeriesShape, embed_dim: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.channels_each = shape.num_channels
        self.token_steps = [(step, step) for step in range(shape.context_length)]
        self.embedding = Linear(shape.num_channels + shape.num_covariates, embed_dim)
        self.num_future = shape.prediction_length if shape.num_covariates else 0
        num_tokens = shape.context_length + self.num_future
        self.position = SinusoidalPositionalEncoding(embed_dim)
        self.dropout = Dropout(dropout)
        self.num_features = num_tokens * embed_dim

    def forward(
        self, x: Past, past_mask: PastMask | None, covariates: Covariates | None
    ) -> tuple[SequenceTokens, SequenceMask | None]:
        mask: Bool[Tensor, "batch steps"] | None = None
        if covariates is not None:
            x = torch.cat([F.pad(x, (0, 0, 0, self.num_future)), covariates], dim=-1)
        elif past_mask is not None:
            mask = past_mask.all(2)
        return self.dropout(self.embedding(x) + self.position(x.shape[1])), mask

"""transformers' PatchTST, and the original one in torch's own parts: what ours is held against."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from tasks.benchmark.speed.forecast import Sizes
from tasks.forecast.heads import Future, FutureMask
from tasks.forecast.revin import Past, PastMask

Tokens = Float[Tensor, "sequences patches width"]
Scores = Float[Tensor, "sequences heads patches patches"]


class PublishedPatchTST(nn.Module):
    """transformers' `PatchTSTForPrediction` with its own loss.

    It has no padding, and so one patch fewer.

    Args:
        sizes: The model's sizes.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        from transformers import PatchTSTConfig, PatchTSTForPrediction

        config = PatchTSTConfig(
            num_input_channels=sizes.channels,
            context_length=sizes.context_length,
            prediction_length=sizes.prediction_length,
            patch_length=sizes.patch_length,
            patch_stride=sizes.stride,
            d_model=sizes.width,
            num_attention_heads=sizes.heads,
            num_hidden_layers=sizes.layers,
            ffn_dim=sizes.ffn_dim,
            positional_dropout=sizes.dropout,
            path_dropout=sizes.dropout,
            ff_dropout=sizes.dropout,
            positional_encoding_type="random",  # which is the learned one
            pre_norm=False,
            pooling_type=None,
        )
        self.model = PatchTSTForPrediction(config)

    def forward(self, past: Past, past_mask: PastMask, future: Future, future_mask: FutureMask) -> Tensor:  # noqa: ARG002 - nothing is missing
        """The loss in training, else the forecast."""
        output = self.model(past_values=past, future_values=future if self.training else None)
        return output.loss if self.training else output.prediction_outputs


class PlainAttention(nn.Module):
    """Attention whose scores are added to those of the layer before (He et al. 2021, RealFormer).

    Args:
        sizes: The model's sizes.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.query, self.key, self.value, self.out = (nn.Linear(sizes.width, sizes.width) for _ in range(4))
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, x: Tokens, before: Scores | None) -> tuple[Tokens, Scores]:
        """Attends; gives the scores as well."""
        q, k, v = (part(x).unflatten(2, (self.heads, -1)) for part in (self.query, self.key, self.value))
        scores = torch.matmul(q.transpose(1, 2), k.permute(0, 2, 3, 1)) * q.shape[3] ** -0.5
        if before is not None:
            scores = scores + before
        mixed = torch.matmul(scores.softmax(-1), v.transpose(1, 2))
        return self.dropout(self.out(mixed.transpose(1, 2).contiguous().flatten(2))), scores


class PlainLayer(nn.Module):
    """A post-norm layer; what attention gives is dropped twice, as published: by itself, and on its branch.

    Args:
        sizes: The model's sizes.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.attention = PlainAttention(sizes)
        self.norm1, self.norm2 = (nn.BatchNorm1d(sizes.width) for _ in range(2))
        self.dropout1, self.dropout2 = (nn.Dropout(sizes.dropout) for _ in range(2))
        wider, narrower = nn.Linear(sizes.width, sizes.ffn_dim), nn.Linear(sizes.ffn_dim, sizes.width)
        self.feedforward = nn.Sequential(wider, nn.GELU(), nn.Dropout(sizes.dropout), narrower)

    def forward(self, x: Tokens, before: Scores | None) -> tuple[Tokens, Scores]:
        """Attends and transforms each token; gives the attention's scores as well."""
        mixed, scores = self.attention(x, before)
        x = self.norm1((x + self.dropout1(mixed)).transpose(1, 2)).transpose(1, 2)
        return self.norm2((x + self.dropout2(self.feedforward(x))).transpose(1, 2)).transpose(1, 2), scores


class PlainPatchTST(nn.Module):
    """PatchTST by hand, operation for operation what yuqinie98/PatchTST computes with its script for ETTh1.

    Args:
        sizes: The model's sizes.
        residual: Whether the scores go from layer to layer, as published.
    """

    def __init__(self, sizes: Sizes, *, residual: bool = True) -> None:
        super().__init__()
        self.sizes = sizes
        self.residual = residual
        self.padding = nn.ReplicationPad1d((0, sizes.stride))
        self.embedding = nn.Linear(sizes.patch_length, sizes.width)
        self.position = nn.Parameter(torch.empty(sizes.patches, sizes.width).uniform_(-0.02, 0.02))
        self.dropout = nn.Dropout(sizes.dropout)
        self.layers = nn.ModuleList(PlainLayer(sizes) for _ in range(sizes.layers))
        self.head = nn.Linear(sizes.width * sizes.patches, sizes.prediction_length)

    def forward(self, past: Past, past_mask: PastMask, future: Future, future_mask: FutureMask) -> Tensor:  # noqa: ARG002 - nothing is missing
        """The loss in training, else the forecast."""
        mean = past.mean(1, keepdim=True).detach()
        deviation = (past.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt().detach()
        series = self.padding(((past - mean) / deviation).transpose(1, 2))
        x = self.embedding(series.unfold(2, self.sizes.patch_length, self.sizes.stride))
        x, scores = self.dropout(x.flatten(0, 1) + self.position), None
        for layer in self.layers:
            x, scores = layer(x, scores if self.residual else None)
        features = x.unflatten(0, (len(past), -1)).transpose(2, 3).flatten(2)  # a feature's patches stand together
        forecast = self.head(features).transpose(1, 2) * deviation + mean
        return F.mse_loss(forecast, future) if self.training else forecast

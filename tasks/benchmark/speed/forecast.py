"""PatchTST as `tasks.forecast` trains it: what `speed --task forecast` measures."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from core import BatchNorm, Encoder
from tasks.forecast.heads import Future, FutureMask, mean_loss
from tasks.forecast.model import Forecaster
from tasks.forecast.revin import Past, PastMask
from tasks.forecast.tokens import PatchTokens


@dataclass(frozen=True)
class Sizes:
    """A PatchTST's sizes, the same for ours and for its peer.

    Attributes:
        context_length: Steps that a forecast is made from.
        prediction_length: Steps that are forecast.
        channels: Channels of the series.
        patch_length: Steps of a patch.
        stride: Steps from one patch to the next; how often the last step is repeated at the end, too.
        width: Width of a token.
        heads: Heads of each layer.
        layers: Number of layers.
        ffn_dim: Width inside the feed-forward networks.
        dropout: Probability with which an element of a token, of a branch, or an activation in a feed-forward network,
            is dropped.
    """

    context_length: int
    prediction_length: int
    channels: int
    patch_length: int
    stride: int
    width: int
    heads: int
    layers: int
    ffn_dim: int
    dropout: float

    @property
    def patches(self) -> int:
        """Patches of a channel, that of the repeated step among them."""
        return (self.context_length - self.patch_length) // self.stride + 2


class Predictor(nn.Module):
    """Ours, as configured in the original script for ETTh1: post-norm, BatchNorm, RevIN without weights.

    Args:
        sizes: The model's sizes.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        stack = (sizes.width, sizes.heads, sizes.layers, sizes.ffn_dim)
        patches = {"patch_length": sizes.patch_length, "stride": sizes.stride, "padding": sizes.stride}
        self.forecaster = Forecaster(
            Encoder(*stack, dropout=sizes.dropout, norm=BatchNorm, norm_first=False),
            context_length=sizes.context_length,
            prediction_length=sizes.prediction_length,
            num_channels=sizes.channels,
            tokens=partial(PatchTokens, **patches, dropout=sizes.dropout),
        )

    def forward(self, past: Past, past_mask: PastMask, future: Future, future_mask: FutureMask) -> Tensor:
        """The loss in training, else the forecast; the masks are asked and heeded as in `ForecastModule`."""
        forecast = self.forecaster(past, past_mask if past_mask.any() else None)
        return mean_loss(forecast, future, future_mask).value if self.training else forecast.point

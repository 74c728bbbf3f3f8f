"""From padded pictures to a grid of features, with the grid's own padding."""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

PaddingMask = Bool[Tensor, "batch height width"]
Features = Float[Tensor, "batch features rows columns"]
CellPadding = Bool[Tensor, "batch rows columns"]


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel, so that no pixel, real or padded, changes another."""

    def forward(self, input: Features) -> Features:  # noqa: A002 - the name that torch.nn.LayerNorm gives it
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvBlock(nn.Module):
    """Two 3x3 convolutions beside an identity (He et al. 2016, figure 2), each after a norm.

    Args:
        channels: Channels in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(channels), ChannelNorm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Features, padding_mask: CellPadding | None) -> Features:
        """Transforms the real pixels; padded ones are zero, as beyond the picture's edge."""
        branch = self.conv1(without_padding(self.norm1(x).relu(), padding_mask))
        return x + self.conv2(without_padding(self.norm2(branch).relu(), padding_mask))


class ConvStem(nn.Module):
    """Convolutions that halve the picture stage by stage: a light backbone, to be trained from scratch.

    Padding is zeroed before every convolution, so that a picture's features are the same alone and in a batch of
    larger ones.

    Args:
        widths: Channels of each stage; with n stages a cell of the grid covers 2^n pixels to a side.
        depths: Residual blocks of each stage; none anywhere if not given.
        num_channels: Channels of the picture.

    Raises:
        ValueError: If there is no stage, or not a depth for each.
    """

    def __init__(self, widths: list[int], depths: list[int] | None = None, *, num_channels: int = 3) -> None:
        super().__init__()
        depths = [0] * len(widths) if depths is None else depths
        if not widths or len(depths) != len(widths):
            raise ValueError(f"widths={widths} and depths={depths} must have a number for each stage, at least one")
        self.num_features = widths[-1]
        self.down = nn.ModuleList(
            nn.Conv2d(before, width, 3, stride=2, padding=1)
            for before, width in zip([num_channels, *widths], widths, strict=False)
        )
        self.norms = nn.ModuleList(ChannelNorm(width) for width in widths)
        self.stages = nn.ModuleList(
            nn.ModuleList(ConvBlock(width) for _ in range(depth)) for width, depth in zip(widths, depths, strict=True)
        )

    def forward(
        self, image: Float[Tensor, "batch channels height width"], padding_mask: PaddingMask | None
    ) -> tuple[Features, CellPadding | None]:
        """Gives the last stage's features and which of its cells are padding; None = none is."""
        x = without_padding(image, padding_mask)
        for number, (down, norm, blocks) in enumerate(zip(self.down, self.norms, self.stages, strict=True)):
            x = down(x)
            padding_mask = None if padding_mask is None else padding_mask[:, ::2, ::2]
            x = norm(x)
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues]
                x = block(x, padding_mask)
            if number < len(self.down) - 1:
                x = x.relu()
            x = without_padding(x, padding_mask)
        return x, padding_mask


class TimmBackbone(nn.Module):
    """Any model of timm that gives features, its batch norms frozen (Carion et al. 2020, section 4).

    Its convolutions see the padding, as those of the published DETR do.

    Args:
        name: timm's name of the model, such as `resnet50`.
        pretrained: Whether timm downloads published weights.
        stage: Which of the model's feature maps is taken, counted from the last, as an index.

    Raises:
        ValueError: If timm has no such model, or cannot download its weights.
    """

    def __init__(self, name: str = "resnet50", *, pretrained: bool = False, stage: int = -1) -> None:
        super().__init__()
        from timm import create_model, is_model
        from timm.layers.norm_act import freeze_batch_norm_2d

        if not is_model(name):
            raise ValueError(f"name={name!r} is no model of timm")
        try:
            model = create_model(name, pretrained=pretrained, features_only=True)
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"name={name!r}: {str(error).splitlines()[0]}; with pretrained=false it starts from random weights"
            ) from error
        self.model = freeze_batch_norm_2d(model)
        self.stage = stage
        self.num_features: int = model.feature_info.channels()[stage]  # pyright: ignore

    def forward(
        self, image: Float[Tensor, "batch channels height width"], padding_mask: PaddingMask | None
    ) -> tuple[Features, CellPadding | None]:
        """Gives one feature map, and which of its cells are padding; None = none is."""
        features: Sequence[Tensor] = self.model(image)
        x = features[self.stage]
        if padding_mask is not None:
            padding_mask = F.interpolate(padding_mask[:, None].float(), size=x.shape[-2:])[:, 0].bool()
        return x, padding_mask


def without_padding(x: Tensor, padding_mask: Bool[Tensor, "batch height width"] | None) -> Tensor:
    """Zeros for the padded pixels of each channel."""
    return x if padding_mask is None else x.masked_fill(padding_mask[:, None], 0.0)

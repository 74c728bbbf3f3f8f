"""DETR: boxes as a set, out of a backbone, the core's encoder and the core's decoder (Carion et al. 2020)."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from core import Decoder, Encoder, Linear, Packing, SinusoidalPositionalEncoding2d
from tasks.detr.classification import Classification, SoftmaxClassification
from tasks.detr.denoising import Denoising, Noised
from tasks.detr.queries import Cells, LearnedQueries, Queries


class Found(NamedTuple):
    """What each decoder layer says of each query.

    Attributes:
        logits: Of the classes.
        boxes: Normalised `cx, cy, w, h`.
    """

    logits: Float[Tensor, "layers batch queries logits"]
    boxes: Float[Tensor, "layers batch queries 4"]


class Output(NamedTuple):
    """What a forward pass gives.

    Attributes:
        found: What every decoder layer says.
        restored: What every layer makes of the noised objects; None = there were none.
        proposed: What the encoder's cells propose, as one layer; None = the queries take no proposals.
        padding: Which cells are padding; None = none is.
        grid: Rows and columns of the cells.
    """

    found: Found
    restored: Found | None
    proposed: Found | None
    padding: Bool[Tensor, "batch cells"] | None
    grid: tuple[int, int]


class MLP(nn.Sequential):
    """Linear maps with ReLU between: DETR's box head.

    Args:
        widths: Width in, of each layer inside, and out.
    """

    def __init__(self, *widths: int) -> None:
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [Linear(before, after), nn.ReLU()]
        super().__init__(*layers[:-1])


class DETR(nn.Module):
    """Finds the boxes of a picture as a set of queries' answers (Carion et al. 2020).

    Plain DETR is `LearnedQueries` with `SoftmaxClassification`; DAB-DETR is `AnchorQueries`; DN-DETR adds
    `denoising` to it. Where pictures differ in size the encoder works on their real cells only, packed.

    Args:
        backbone: Gives a grid of features, as `tasks.detr.backbone.ConvStem`.
        encoder: The core's encoder; its width is the model's.
        decoder: The core's decoder, with encoder-decoder attention and of the same width.
        num_classes: Number of classes.
        queries: Makes the queries from `embed_dim`.
        classification: How a query says its class, and that it has found nothing.
        denoising: Makes the denoising queries of training from `embed_dim` and `num_classes`; None = none.
        pretrained: Weights to start from: a file (`.safetensors`, `.pth`, `.pt`, `.bin`) of facebookresearch/detr or of
            transformers' DETR, or a checkpoint of ours; another number of classes leaves the class head fresh.
        category_ids: The data's own id of each class, by which a class head published for COCO is read.

    Raises:
        ValueError: If encoder and decoder differ in width, the decoder has no encoder-decoder attention,
            `denoising` comes with queries that are no anchors, or the pretrained weights cannot be read or do not fit.
    """

    def __init__(
        self,
        backbone: nn.Module,
        encoder: Encoder,
        decoder: Decoder,
        *,
        num_classes: int,
        queries: Callable[[int], Queries] = LearnedQueries,
        classification: Classification | None = None,
        denoising: Callable[[int, int], Denoising] | None = None,
        pretrained: str | None = None,
        category_ids: list[int] | None = None,
    ) -> None:
        super().__init__()
        width = encoder.embed_dim
        if decoder.embed_dim != width or not decoder.has_memory:
            raise ValueError(
                f"decoder of width {decoder.embed_dim}, cross_attention={decoder.has_memory}: it must have the "
                f"encoder's width {width}, and encoder-decoder attention"
            )
        if num_classes < 1:
            raise ValueError(f"num_classes={num_classes} must be at least 1")
        self.num_classes = num_classes
        self.backbone = backbone
        self.projection = nn.Conv2d(backbone.num_features, width, 1)  # pyright: ignore[reportArgumentType]
        self.position = SinusoidalPositionalEncoding2d(width)
        self.encoder = encoder
        self.decoder = decoder
        # A post-norm decoder ends in no norm of its own; DETR norms what it reads off each layer.
        self.norm = decoder.norm if not isinstance(decoder.norm, nn.Identity) else nn.LayerNorm(width)
        self.queries = queries(width)
        self.classification = SoftmaxClassification() if classification is None else classification
        self.class_head = Linear(width, self.classification.num_logits(num_classes))
        self.box_head = MLP(width, width, width, 4)
        self.denoising = None if denoising is None else denoising(width, num_classes)
        if self.denoising is not None and not self.queries.has_anchors:
            raise ValueError("denoising starts from noised boxes: it needs queries that are anchors (AnchorQueries)")
        self.classification.initialise(self.class_head)
        self._initialise_boxes()
        if pretrained is not None:
            from tasks.detr.pretrained import load_pretrained

            load_pretrained(self, pretrained, category_ids)

    def _initialise_boxes(self) -> None:
        """Offsets start at zero, so that a layer's first box is its anchor."""
        last = self.box_head[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.bias)
        if self.queries.has_anchors:
            nn.init.zeros_(last.weight)

    def forward(
        self,
        image: Float[Tensor, "batch channels height width"],
        padding_mask: Bool[Tensor, "batch height width"] | None = None,
    ) -> tuple[Float[Tensor, "batch queries logits"], Float[Tensor, "batch queries 4"]]:
        """Gives logits and boxes (normalised `cx, cy, w, h`) of the last layer."""
        logits, boxes = self.find(image, padding_mask).found
        return logits[-1], boxes[-1]

    def find(
        self,
        image: Float[Tensor, "batch channels height width"],
        padding_mask: Bool[Tensor, "batch height width"] | None = None,
        noised: Noised | None = None,
    ) -> Output:
        """Gives what every layer finds, and what it makes of `noised` objects if there are any.

        Args:
            image: Pictures, padded with zeros at the right and the bottom.
            padding_mask: True = padding.
            noised: What `denoising` has made of the objects.
        """
        cells = self.encode(image, padding_mask)
        content, anchors, proposed = self.queries.start(cells, self._read)
        batch = image.shape[0]
        content = content.expand(batch, -1, -1)
        anchors = None if anchors is None else anchors.expand(batch, -1, -1)
        masks, count = {}, 0
        if noised is not None:
            assert anchors is not None
            count = noised.anchors.shape[1]
            content, anchors = torch.cat([noised.content, content], 1), torch.cat([noised.anchors, anchors], 1)
            masks = noised.masks(self.queries.num_queries)
        every = self._decode(content, anchors, cells, masks)
        return Output(
            found=Found(*(x[:, :, count:] for x in every)),
            restored=None if noised is None else Found(*(x[:, :, :count] for x in every)),
            proposed=None if proposed is None else Found(proposed[0][None], proposed[1].sigmoid()[None]),
            padding=cells.padding,
            grid=cells.grid,
        )

    def encode(
        self,
        image: Float[Tensor, "batch channels height width"],
        padding_mask: Bool[Tensor, "batch height width"] | None,
    ) -> Cells:
        """Gives the encoded cells of the grid."""
        if padding_mask is not None and not bool(padding_mask.any()):
            padding_mask = None
        # A pixel's channels side by side: convolutions, pooling and norms are faster so, and cells come out as tokens.
        features, padding = self.backbone(image.contiguous(memory_format=torch.channels_last), padding_mask)
        grid = (features.shape[2], features.shape[3])
        x = self.projection(features).flatten(2).transpose(1, 2)
        if padding is None:
            padding = torch.zeros(1, *grid, dtype=torch.bool, device=x.device)
            pos = self.position(padding).flatten(1, 2)
            return Cells(self.encoder(x, pos=pos), pos, None, centres(padding), grid)
        pos, packing = self.position(padding).flatten(1, 2), Packing(padding.flatten(1))
        packed = self.encoder(packing.pack(x), pos=packing.pack(pos), packing=packing)
        return Cells(packing.unpack(packed), pos, padding.flatten(1), centres(padding), grid)

    def _decode(
        self,
        x: Float[Tensor, "batch queries embed_dim"],
        anchors: Float[Tensor, "batch queries 4"] | None,
        cells: Cells,
        masks: dict[str, Tensor],
    ) -> Found:
        every = []
        for layer in self.decoder.layers:
            x = layer(
                x,
                cells.memory,
                query_pos=self.queries.position(anchors),
                pos=cells.pos,
                memory_key_padding_mask=cells.padding,
                is_causal=False,
                **masks,
            )
            every.append(self._read(self.norm(x), anchors))
            anchors = None if anchors is None else every[-1][1].detach()
        logits, boxes = (torch.stack(layers) for layers in zip(*every, strict=True))
        return Found(logits, boxes.sigmoid())

    def _read(
        self, x: Float[Tensor, "batch queries embed_dim"], anchors: Float[Tensor, "batch queries 4"] | None
    ) -> tuple[Float[Tensor, "batch queries logits"], Float[Tensor, "batch queries 4"]]:
        """The heads: logits of the classes, and boxes as logits, which are offsets where there are anchors."""
        offset = self.box_head(x)
        return self.class_head(x), offset if anchors is None else anchors + offset


def centres(padding: Bool[Tensor, "batch rows columns"]) -> Float[Tensor, "batch cells 2"]:
    """The centre of each cell, `cx, cy` as shares of the picture's real part; beyond 1 in padding."""
    real = (~padding).float()
    sides = real.amax(1).sum(1), real.amax(2).sum(1)
    shares = [
        (torch.arange(padding.shape[axis], device=padding.device) + 0.5) / side.clamp(min=1)[:, None]
        for axis, side in ((2, sides[0]), (1, sides[1]))
    ]
    columns, rows = shares[0][:, None, :], shares[1][:, :, None]
    return torch.stack(torch.broadcast_tensors(columns, rows), dim=-1).flatten(1, 2)

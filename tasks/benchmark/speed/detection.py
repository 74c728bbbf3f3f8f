"""DETR as `tasks.detr` trains it: what `speed --task detr` measures."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core import Decoder, Encoder
from tasks.detr.backbone import TimmBackbone
from tasks.detr.losses import SetLoss, total
from tasks.detr.matcher import HungarianMatcher
from tasks.detr.model import DETR
from tasks.detr.queries import LearnedQueries
from tasks.detr.targets import gather_targets

Image = Float[Tensor, "batch 3 height width"]
Boxes = list[Float[Tensor, "objects 4"]]
"""Of each picture, normalised `cx, cy, w, h`."""
Labels = list[Int[Tensor, " objects"]]
Answers = tuple[Float[Tensor, "batch queries logits"], Float[Tensor, "batch queries 4"]]
"""Logits and boxes of the last layer."""


@dataclass(frozen=True)
class Sizes:
    """A DETR's sizes, the same for ours and for its peer; the backbone is a ResNet-18.

    Attributes:
        image_size: Side of a picture, in pixels; a multiple of 32.
        classes: Number of classes.
        queries: Number of queries.
        width: Width of a token.
        heads: Heads of each layer.
        layers: Layers of the encoder, and of the decoder.
        ffn_dim: Width inside the feed-forward networks.
    """

    image_size: int
    classes: int
    queries: int
    width: int
    heads: int
    layers: int
    ffn_dim: int


class Detector(nn.Module):
    """Plain DETR with its matcher and its loss: post-norm, ReLU, no dropout, the backbone frozen as published.

    Args:
        sizes: The model's sizes.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        backbone = TimmBackbone("resnet18")
        for part in (backbone.model.conv1, backbone.model.layer1):
            part.requires_grad_(False)
        stack = (sizes.width, sizes.heads, sizes.layers, sizes.ffn_dim)
        self.detr = DETR(
            backbone,
            Encoder(*stack, norm_first=False, activation=nn.ReLU),
            Decoder(*stack, norm_first=False, activation=nn.ReLU),
            num_classes=sizes.classes,
            queries=lambda width: LearnedQueries(width, num_queries=sizes.queries),
        )
        self.matcher = HungarianMatcher()
        self.loss = SetLoss()

    def forward(self, image: Image, boxes: Boxes, labels: Labels) -> Tensor | Answers:
        """The loss in training, else the answers."""
        if not self.training:
            return self.detr(image)
        found, targets = self.detr.find(image).found, gather_targets(boxes, labels)
        matches = self.matcher(found, targets, self.detr.classification)
        return total(self.loss.of_matches(found, targets, matches, self.detr.classification))

    @torch.no_grad()
    def matching(self, image: Image, boxes: Boxes, labels: Labels) -> Callable[[], object]:
        """The step's matching by itself, of what is found in the pictures."""
        found, targets = self.detr.find(image).found, gather_targets(boxes, labels)
        return lambda: self.matcher(found, targets, self.detr.classification)

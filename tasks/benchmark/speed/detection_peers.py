"""transformers' DETR, and DETR in torch's own parts: what ours is held against."""

import math
from collections import OrderedDict
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.ops import FrozenBatchNorm2d, box_convert, generalized_box_iou

from tasks.benchmark.speed.detection import Answers, Boxes, Image, Labels, Sizes


def freeze(resnet: nn.Module) -> None:
    """Leaves the stem and the first stage as they are, as published."""
    for name, parameter in resnet.named_parameters():
        parameter.requires_grad_(any(stage in name for stage in ("layer2", "layer3", "layer4")))


class PublishedDETR(nn.Module):
    """transformers' `DetrForObjectDetection` with its own loss, without dropout.

    Its auxiliary losses make its decoder norm the tokens between layers too, which changes them only once that norm
    and the layers' own have been trained.

    Args:
        sizes: The model's sizes.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        from transformers import DetrConfig, DetrForObjectDetection

        arguments: dict[str, Any] = {"backbone": "resnet18", "num_labels": sizes.classes, "num_queries": sizes.queries}
        for stack in ("encoder", "decoder"):
            arguments[f"{stack}_layers"] = sizes.layers
            arguments[f"{stack}_attention_heads"] = sizes.heads
            arguments[f"{stack}_ffn_dim"] = sizes.ffn_dim
        config = DetrConfig(d_model=sizes.width, dropout=0.0, auxiliary_loss=True, **arguments)
        self.model = DetrForObjectDetection(config)
        freeze(self.model.model.backbone)  # it does so itself only for its own ResNet, not for timm's

    def forward(self, image: Image, boxes: Boxes, labels: Labels) -> Tensor | Answers:
        """The loss in training, else the answers."""
        targets: Any = [{"class_labels": label, "boxes": box} for box, label in zip(boxes, labels, strict=True)]
        output = self.model(pixel_values=image, labels=targets if self.training else None)
        return output.loss if self.training else (output.logits, output.pred_boxes)


class PlainEncoderLayer(nn.Module):
    """A post-norm layer on tokens of shape (length, batch, width).

    Args:
        sizes: The model's sizes.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(sizes.width, sizes.heads)
        self.linear1, self.linear2 = nn.Linear(sizes.width, sizes.ffn_dim), nn.Linear(sizes.ffn_dim, sizes.width)
        self.norm1, self.norm2 = nn.LayerNorm(sizes.width), nn.LayerNorm(sizes.width)

    def forward(self, x: Tensor, pos: Tensor, padding: Tensor) -> Tensor:
        """Attends and transforms each token."""
        q = k = x + pos
        x = self.norm1(x + self.self_attn(q, k, x, key_padding_mask=padding)[0])
        return self.norm2(x + self.linear2(F.relu(self.linear1(x))))


class PlainDecoderLayer(nn.Module):
    """The decoder's, which attends to the memory between.

    Args:
        sizes: The model's sizes.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.self_attn, self.multihead_attn = (nn.MultiheadAttention(sizes.width, sizes.heads) for _ in range(2))
        self.linear1, self.linear2 = nn.Linear(sizes.width, sizes.ffn_dim), nn.Linear(sizes.ffn_dim, sizes.width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(sizes.width) for _ in range(3))

    def forward(self, x: Tensor, query_pos: Tensor, memory: Tensor, pos: Tensor, padding: Tensor) -> Tensor:
        """Attends, attends to the memory and transforms each token."""
        q = k = x + query_pos
        x = self.norm1(x + self.self_attn(q, k, x)[0])
        mixed = self.multihead_attn(x + query_pos, memory + pos, memory, key_padding_mask=padding)[0]
        x = self.norm2(x + mixed)
        return self.norm3(x + self.linear2(F.relu(self.linear1(x))))


class PlainStack(nn.Module):
    """Layers, and the norm of what is read off each of the decoder's.

    Args:
        layers: The layers.
        norm: The norm.
    """

    def __init__(self, layers: Iterable[nn.Module], norm: nn.Module | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = nn.Identity() if norm is None else norm


class PlainDETR(nn.Module):
    """DETR by hand, operation for operation what facebookresearch/detr computes, its backbone frozen as there.

    Args:
        sizes: The model's sizes.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        resnet = list(resnet18(norm_layer=FrozenBatchNorm2d).named_children())
        self.backbone = nn.Sequential(OrderedDict(body=nn.Sequential(OrderedDict(resnet[:-2]))))
        freeze(self.backbone)
        self.input_proj = nn.Conv2d(512, sizes.width, 1)
        self.encoder = PlainStack(PlainEncoderLayer(sizes) for _ in range(sizes.layers))
        decoding = (PlainDecoderLayer(sizes) for _ in range(sizes.layers))
        self.decoder = PlainStack(decoding, nn.LayerNorm(sizes.width))
        self.query_embed = nn.Embedding(sizes.queries, sizes.width)
        self.class_embed = nn.Linear(sizes.width, sizes.classes + 1)
        widths = (sizes.width, sizes.width, sizes.width, 4)
        self.bbox_embed = PlainStack(nn.Linear(before, after) for before, after in pairwise(widths))

    def forward(self, image: Image, boxes: Boxes, labels: Labels) -> Tensor | Answers:
        """The loss in training, else the answers."""
        padding = torch.zeros(len(image), *image.shape[2:], dtype=torch.bool)
        features = self.backbone(image)
        padding = F.interpolate(padding[None].float(), size=features.shape[2:]).bool()[0]
        pos = sine_position(padding, self.query_embed.embedding_dim // 2).flatten(1, 2).transpose(0, 1)
        memory, padding = self.input_proj(features).flatten(2).permute(2, 0, 1), padding.flatten(1)
        for layer in self.encoder.layers:
            memory = layer(memory, pos, padding)
        query_pos = self.query_embed.weight[:, None].repeat(1, len(image), 1)
        x, every = torch.zeros_like(query_pos), []
        for layer in self.decoder.layers:
            x = layer(x, query_pos, memory, pos, padding)
            every.append(self.decoder.norm(x))
        states = torch.stack(every).transpose(1, 2)
        first, second, third = self.bbox_embed.layers
        found = self.class_embed(states), third(F.relu(second(F.relu(first(states))))).sigmoid()
        if not self.training:
            return found[0][-1], found[1][-1]
        return torch.stack([plain_loss(*layer, boxes, labels) for layer in zip(*found, strict=True)]).sum()


def sine_position(padding: Tensor, features: int) -> Tensor:
    """Sines and cosines of row and column, scaled to the real part of each picture: (batch, rows, columns, width)."""
    wavelengths = 10_000 ** (2 * (torch.arange(features, dtype=torch.float32) // 2) / features)
    halves = []
    for axis in (1, 2):
        place = (~padding).cumsum(axis, dtype=torch.float32)
        place = place / (place.narrow(axis, -1, 1) + 1e-6) * (2 * math.pi)
        angles = place[..., None] / wavelengths
        halves.append(torch.stack((angles[..., 0::2].sin(), angles[..., 1::2].cos()), dim=4).flatten(3))
    return torch.cat(halves, dim=3)


@torch.no_grad()
def plain_matches(logits: Tensor, answers: Tensor, boxes: Boxes, labels: Labels) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of least cost of one layer: picture, query, and object by its number in the batch.

    Every query is held against the objects of all pictures, as published.
    """
    everything, counts = torch.cat(boxes), [len(each) for each in boxes]
    own, probabilities = answers.flatten(0, 1), logits.flatten(0, 1).softmax(-1)
    cost = 5 * torch.cdist(own, everything, p=1) - probabilities[:, torch.cat(labels)]
    cost = cost - 2 * generalized_box_iou(corners(own), corners(everything))
    costs = cost.view(*logits.shape[:2], -1).cpu().split(counts, -1)
    pairs = [linear_sum_assignment(each[picture]) for picture, each in enumerate(costs)]
    first = [sum(counts[:picture]) for picture in range(len(counts))]
    queries = [torch.as_tensor(query) for query, _ in pairs]
    objects = [torch.as_tensor(target) + first[picture] for picture, (_, target) in enumerate(pairs)]
    pictures = [torch.full_like(query, picture) for picture, query in enumerate(queries)]
    return torch.cat(pictures), torch.cat(queries), torch.cat(objects)


def plain_loss(logits: Tensor, answers: Tensor, boxes: Boxes, labels: Labels) -> Tensor:
    """Class, L1 and generalised IoU of one layer; the cardinality error that is logged is computed too."""
    picture, query, target = plain_matches(logits, answers, boxes, labels)
    no_object, counts = logits.shape[-1] - 1, torch.tensor([len(each) for each in boxes])
    weight = torch.ones(no_object + 1)
    weight[-1] = 0.1
    classes = torch.full(logits.shape[:2], no_object)
    classes[picture, query] = torch.cat(labels)[target]
    loss = F.cross_entropy(logits.transpose(1, 2), classes, weight)
    with torch.no_grad():
        F.l1_loss((logits.argmax(-1) != no_object).sum(1).float(), counts.float())
    own, true = answers[picture, query], torch.cat(boxes)[target]
    overlap = generalized_box_iou(corners(own), corners(true)).diag()
    return loss + (5 * F.l1_loss(own, true, reduction="none").sum() + 2 * (1 - overlap).sum()) / counts.sum()


def corners(boxes: Tensor) -> Tensor:
    """`x1, y1, x2, y2` of `cx, cy, w, h`."""
    return box_convert(boxes, "cxcywh", "xyxy")

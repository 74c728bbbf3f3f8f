"""A small DETR of each kind, and padded pictures with objects."""

from collections.abc import Callable

import torch
from torch import Tensor

from core import Attention, Decoder, Encoder, FullAttention
from tasks.detr.backbone import ConvStem
from tasks.detr.classification import FocalClassification, SoftmaxClassification
from tasks.detr.denoising import Denoising
from tasks.detr.losses import SetLoss, total
from tasks.detr.matcher import HungarianMatcher
from tasks.detr.model import DETR
from tasks.detr.queries import AnchorQueries, LearnedQueries, ProposalQueries
from tasks.detr.targets import Targets

WIDTH, CLASSES, QUERIES = 16, 3, 7

KINDS = {
    "plain": {"queries": LearnedQueries, "classification": SoftmaxClassification()},
    "dab": {"queries": AnchorQueries, "classification": FocalClassification()},
    "proposals": {"queries": ProposalQueries, "classification": FocalClassification()},
    "dn": {"queries": AnchorQueries, "classification": FocalClassification(), "denoising": Denoising},
}


def detr(kind: str = "plain", *, attention: Callable[[], Attention] = FullAttention, norm_first: bool = True) -> DETR:
    """Random weights of its own: also where training starts from zeros."""
    torch.manual_seed(0)
    made = KINDS[kind]
    network = DETR(
        ConvStem([4, 8], [0, 1]),
        Encoder(WIDTH, 2, 2, 32, attention=attention, norm_first=norm_first),
        Decoder(WIDTH, 2, 2, 32, norm_first=norm_first),
        num_classes=CLASSES,
        **(made | {"queries": lambda width: made["queries"](width, num_queries=QUERIES)}),
    )
    with torch.no_grad():
        for parameter in network.box_head.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


def training_loss(model: DETR, image: Tensor, padding: Tensor, targets: Targets) -> Tensor:
    """All that training adds up: what is found, what the encoder proposes, what is restored."""
    noised = None if model.denoising is None else model.denoising(targets)
    output, matcher, weigh = model.find(image, padding, noised), HungarianMatcher(), SetLoss()
    loss = torch.zeros(())
    for found, ignored in [(output.found, None), (output.proposed, output.padding)]:
        if found is not None:
            matches = matcher(found, targets, model.classification, ignored)
            loss = loss + total(weigh.of_matches(found, targets, matches, model.classification, ignored))
    if model.denoising is not None and noised is not None and output.restored is not None:
        count = targets.num_objects * model.denoising.num_groups
        loss = loss + total(weigh.of_noised(output.restored, noised, count, model.classification))
    return loss


def padded(*sizes: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Pictures of given heights and widths in one batch, and its padding."""
    generator = torch.Generator().manual_seed(0)
    height, width = (max(side) for side in zip(*sizes, strict=True))
    image, padding = torch.zeros(len(sizes), 3, height, width), torch.ones(len(sizes), height, width, dtype=torch.bool)
    for number, (rows, columns) in enumerate(sizes):
        image[number, :, :rows, :columns] = torch.randn(3, rows, columns, generator=generator)
        padding[number, :rows, :columns] = False
    return image, padding


def objects(*counts: int) -> tuple[list[Tensor], list[Tensor]]:
    """Boxes (normalised `cx, cy, w, h`) and labels of so many objects a picture."""
    generator = torch.Generator().manual_seed(1)
    boxes = [torch.rand(count, 4, generator=generator) * 0.4 + 0.2 for count in counts]
    return boxes, [torch.randint(CLASSES, (count,), generator=generator) for count in counts]

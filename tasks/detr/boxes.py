"""Boxes: normalised `cx, cy, w, h` inside the model, `x1, y1, x2, y2` outside, and how far two of them agree."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import box_convert

SMALLEST = 1e-12
"""A side or an area below this share of its surroundings counts as none: its inverse is no gradient to follow."""

Boxes = Float[Tensor, "*batch boxes 4"]


def cxcywh_to_xyxy(boxes: Float[Tensor, "*boxes 4"]) -> Float[Tensor, "*boxes 4"]:
    """Makes corners `x1, y1, x2, y2` of centre, width and height."""
    return box_convert(boxes, "cxcywh", "xyxy")


def xyxy_to_cxcywh(boxes: Float[Tensor, "*boxes 4"]) -> Float[Tensor, "*boxes 4"]:
    """Makes centre, width and height of corners `x1, y1, x2, y2`."""
    return box_convert(boxes, "xyxy", "cxcywh")


def to_pixels(boxes: Boxes, original_size: Int[Tensor, "*batch 2"]) -> Boxes:
    """Brings a model's boxes to the border to the outside.

    Args:
        boxes: Normalised `cx, cy, w, h`, relative to the picture without its padding.
        original_size: Height and width of each picture's file, in pixels.

    Returns:
        Corners `x1, y1, x2, y2` in pixels, at least in float32, none outside the picture.

    >>> to_pixels(torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.0, 0.0, 1.0, 1.0]]), torch.tensor([100, 200]))
    tensor([[ 50.,  25., 150.,  75.],
            [  0.,   0., 100.,  50.]])
    """
    boxes = boxes if boxes.dtype == torch.float64 else boxes.float()
    height, width = original_size.to(boxes).unbind(-1)
    limits = torch.stack([width, height, width, height], -1)[..., None, :]
    return (cxcywh_to_xyxy(boxes) * limits).clamp(min=0).minimum(limits)


def generalized_iou_pairs(a: Float[Tensor, "*#pairs 4"], b: Float[Tensor, "*#pairs 4"]) -> Float[Tensor, "*pairs"]:
    """Generalised intersection over union of each box of `a` and its partner in `b` (Rezatofighi et al. 2019).

    `GIoU = |A & B| / |A | B| - |C - (A | B)| / |C|`, C being the smallest box around both; from -1 to 1. Computed in
    float32, with sides as shares of C's, which leaves GIoU as it is and keeps areas between 0 and 1, whatever the
    unit. A direction in which both boxes have no extent drops out: GIoU is that of the two intervals or points left.
    So boxes without area have a value and a finite gradient; finite boxes give finite values. torchvision's
    `generalized_box_iou` gives NaN for boxes without area, on which no assignment can be computed.

    Args:
        a: Corners `x1, y1, x2, y2`.
        b: Corners of the partners; the dimensions before the last are broadcast.

    >>> generalized_iou_pairs(torch.tensor([[0.0, 0.0, 2.0, 1.0]]), torch.tensor([[1.0, 0.0, 3.0, 1.0]]))
    tensor([0.3333])
    """
    a, b = a.float(), b.float()
    around = _extent(torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:]))
    shared = _extent(torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:]))
    extended = around > SMALLEST
    divisor = torch.where(extended, around, 1.0)

    def area(sides: Tensor) -> Tensor:
        return torch.where(extended, sides / divisor, 1.0).prod(-1)

    intersection = area(shared)
    union = area(_extent(a[..., :2], a[..., 2:])) + area(_extent(b[..., :2], b[..., 2:])) - intersection
    return intersection / union.clamp(min=SMALLEST) - (1 - union)


def check_detections(detections: Mapping[str, Tensor], where: str, num_classes: int) -> None:
    """Refuses what cannot be measured or written.

    Args:
        detections: Of one picture: `boxes` (n, 4), absolute `x1, y1, x2, y2` in pixels of the original; `scores` (n,);
            `labels` (n,).
        where: The picture, for the message.
        num_classes: Labels must be less.

    Raises:
        ValueError: If lengths differ, a number is not finite, a box ends before it begins or a label names no class.
    """
    boxes, scores, labels = (detections[key] for key in ("boxes", "scores", "labels"))
    if not (boxes.shape == (len(scores), 4) and scores.shape == labels.shape == (len(scores),)):
        shapes = ", ".join(f"{key} {tuple(detections[key].shape)}" for key in ("boxes", "scores", "labels"))
        raise ValueError(f"{where}: detections are boxes (n, 4), scores (n,), labels (n,), not {shapes}")
    if not (torch.isfinite(boxes).all() and torch.isfinite(scores).all()):
        raise ValueError(
            f"{where}: a box or score that was found is not finite: the training has diverged; go back to an earlier "
            "checkpoint and lower training.optimizer.lr"
        )
    if (boxes[:, :2] > boxes[:, 2:]).any():
        raise ValueError(f"{where}: boxes are not x1, y1, x2, y2: one ends before it begins")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ValueError(f"{where}: labels from {labels.min()} to {labels.max()}, but there are {num_classes} classes")


def _extent(first: Tensor, last: Tensor) -> Tensor:
    """From `first` to `last`, or 0 if that is less; unlike `clamp`, with a gradient at 0, so that lines can widen."""
    extent = last - first
    return torch.where(extent < 0, 0.0, extent)

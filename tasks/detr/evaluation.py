"""Measures detections as COCO does: average precision and recall over classes, overlaps and sizes of objects."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from torch import Tensor
from torchvision.ops import box_convert

from tasks.detr.boxes import check_detections
from tasks.processes import gathered

FIGURES: dict[str, tuple[str, tuple[Any, ...]]] = {
    "ap": ("precision", (..., 0, 2)),
    "ap50": ("precision", (0, ..., 0, 2)),
    "ap75": ("precision", (5, ..., 0, 2)),
    "ap_small": ("precision", (..., 1, 2)),
    "ap_medium": ("precision", (..., 2, 2)),
    "ap_large": ("precision", (..., 3, 2)),
    "ar1": ("recall", (..., 0, 0)),
    "ar10": ("recall", (..., 0, 1)),
    "ar100": ("recall", (..., 0, 2)),
    "ar_small": ("recall", (..., 1, 2)),
    "ar_medium": ("recall", (..., 2, 2)),
    "ar_large": ("recall", (..., 3, 2)),
}
"""COCO's twelve figures in its order: which entries of precision (overlap, recall, class, size, most detections) or
recall (overlap, class, size, most detections) each is the mean of. Overlaps are 0.5 to 0.95 by 0.05; sizes all, small
(area up to 32^2), medium (to 96^2), large; most detections 1, 10, 100."""

Figures = dict[str, float | None]


class CocoEvaluation:
    """Collects what was found and what is there, image by image, and gives COCO's figures (Lin et al. 2014).

    They are those of pycocotools on the same boxes, computed by faster-coco-eval, which does it in C++. A crowd is no
    object to be found, and what was found inside it is not counted as wrong; an object's size is the annotation's own
    `area`. At most 100 detections of an image and class count, those with the highest scores.

    Args:
        class_names: Name of each class.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = list(class_names)
        self._images: dict[int, tuple[dict[str, Tensor], dict[str, Tensor]]] = {}

    @property
    def names(self) -> list[str]:
        """The figures that `compute` gives."""
        return [*FIGURES, *(f"{figure}/{name}" for name in self.class_names for figure in ("ap", "ap50"))]

    def update(
        self,
        image_ids: Sequence[int],
        detections: Sequence[Mapping[str, Tensor]],
        truth: Sequence[Mapping[str, Tensor]],
    ) -> None:
        """Takes images in; one that comes twice, as where processes share an uneven number of them, counts once.

        Args:
            image_ids: The images.
            detections: Of each: `boxes` (n, 4), absolute `x1, y1, x2, y2` in pixels of the original; `scores` (n,);
                `labels` (n,).
            truth: Of each: `boxes` (n, 4), likewise; `labels`, `area` and `crowd` (n,).

        Raises:
            ValueError: If a number that was found is not finite, or a label names no class.
        """
        for image_id, found, true in zip(image_ids, detections, truth, strict=True):
            check_detections(found, f"image {image_id}", len(self.class_names))
            self._images[int(image_id)] = (
                _kept(found, ("boxes", "scores", "labels")),
                _kept(true, ("boxes", "labels", "area", "crowd")),
            )

    def compute(self) -> Figures:
        """The figures of all images of all processes; None where there is nothing to measure, which COCO gives as -1.

        `ap`: mean over classes and overlaps from 0.5 to 0.95; `ap50`, `ap75`: at one overlap; `ap_small`, ...: objects
        of a size; `ar1`, `ar10`, `ar100`: recall with at most so many detections; `ap/NAME`, `ap50/NAME`: of a class.
        """
        images = {image_id: image for part in gathered(self._images) for image_id, image in part.items()}
        if not images:
            return dict.fromkeys(self.names)
        evaluation = COCOeval_faster(*_as_coco(images, len(self.class_names)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        figures = {name: _mean(evaluation.eval[kind][where]) for name, (kind, where) in FIGURES.items()}
        precision = evaluation.eval["precision"][..., 0, 2]
        for label, name in enumerate(self.class_names):
            figures[f"ap/{name}"] = _mean(precision[:, :, label])
            figures[f"ap50/{name}"] = _mean(precision[0, :, label])
        return figures

    def reset(self) -> None:
        """Forgets all images."""
        self._images.clear()


def measured(figures: Figures) -> dict[str, float]:
    """The figures that have a value: what can be logged."""
    return {name: value for name, value in figures.items() if value is not None}


def format_figures(figures: Figures) -> str:
    """A line for each figure: its name and three digits, or n/a where there was nothing to measure."""
    width = max((len(name) for name in figures), default=0)
    values = {name: "n/a" if value is None else f"{value:.3f}" for name, value in figures.items()}
    return "".join(f"{name:<{width}}  {value}\n" for name, value in values.items())


def _kept(tensors: Mapping[str, Tensor], keys: Sequence[str]) -> dict[str, Tensor]:
    return {key: tensors[key].detach().to("cpu", copy=True) for key in keys}


def _mean(values: np.ndarray) -> float | None:
    values = values[values > -1]
    return float(np.mean(values)) if len(values) else None


def _as_coco(
    images: Mapping[int, tuple[Mapping[str, Tensor], Mapping[str, Tensor]]], num_classes: int
) -> tuple[COCO, COCO]:
    """Truth and detections as COCO's own data sets, in memory; ids start at 1, since 0 would say "no match"."""
    truth: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for image_id in sorted(images):
        found, true = ({key: value.double() for key, value in part.items()} for part in images[image_id])
        corners = box_convert(true["boxes"], "xyxy", "xywh").tolist()
        columns = (true[key].tolist() for key in ("labels", "area", "crowd"))
        for box, label, area, crowd in zip(corners, *columns, strict=True):
            entry = {"id": len(truth) + 1, "image_id": image_id, "category_id": int(label), "bbox": box}
            truth.append({**entry, "area": area, "iscrowd": int(crowd)})
        corners = box_convert(found["boxes"], "xyxy", "xywh").tolist()
        columns = (found[key].tolist() for key in ("labels", "scores"))
        for box, label, score in zip(corners, *columns, strict=True):
            entry = {"id": len(detections) + 1, "image_id": image_id, "category_id": int(label), "bbox": box}
            detections.append({**entry, "area": box[2] * box[3], "iscrowd": 0, "score": score})
    shared = {
        "images": [{"id": image_id} for image_id in sorted(images)],
        "categories": [{"id": label} for label in range(num_classes)],
    }
    return COCO({**shared, "annotations": truth}), COCO({**shared, "annotations": detections})

"""Looks a detection data set over: counts, sizes, and everything that is wrong with it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from datamodules.detection.annotations import Annotations, Defect, Finding
from datamodules.detection.samples import NUM_CHANNELS, wrong_size
from datamodules.reading import read_image

_MEDIUM, _LARGE = 32**2, 96**2  # COCO's bounds of the area
_TOLERANCE = 0.01  # pixels by which a box may reach out of its picture: products of a float
_NUM_SHOWN = 10  # findings of a kind that the text shows


@dataclass(frozen=True)
class PartCheck:
    """What was found in a part of a data set.

    Attributes:
        split: train, val or test.
        images: Number of pictures.
        annotations: Number of annotations, those of crowds included.
        crowds: Number of those that are crowds.
        per_class: Number of annotations of each class.
        sizes: Number of small, medium and large ones by COCO's bounds, areas of 32^2 and 96^2.
        widths: Least, quartiles and greatest of the boxes' widths in pixels; empty where there is no box.
        heights: The same of their heights.
        findings: The defects, by kind.
    """

    split: str
    images: int
    annotations: int
    crowds: int
    per_class: dict[str, int]
    sizes: dict[str, int]
    widths: list[float]
    heights: list[float]
    findings: dict[Defect, list[str]] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The report of this part."""
        sizes = ", ".join(f"{count} {name}" for name, count in self.sizes.items())
        lines = [
            f"{self.split}: {self.images} images, {self.annotations} annotations ({self.crowds} of them crowds)",
            f"  area: {sizes} (small < 32x32 <= medium < 96x96 <= large)",
        ]
        for name, values in (("width", self.widths), ("height", self.heights)):
            if values:
                lines.append(f"  {name}: {' / '.join(f'{value:.4g}' for value in values)} (least, quartiles, most)")
        width = max((len(name) for name in self.per_class), default=0)
        lines += [f"  {name:<{width}}  {count}" for name, count in self.per_class.items()]
        for defect, messages in self.findings.items():
            lines.append(f"  {len(messages)} {defect}:")
            lines += [f"    {message}" for message in messages[:_NUM_SHOWN]]
            if len(messages) > _NUM_SHOWN:
                lines.append(f"    ... and {len(messages) - _NUM_SHOWN} more")
        return lines


@dataclass(frozen=True)
class Check:
    """What was found in a data set; `str(check)` is the report."""

    parts: list[PartCheck]

    @property
    def num_findings(self) -> int:
        """Number of defects; pictures without objects are none."""
        counts = [
            len(messages)
            for part in self.parts
            for defect, messages in part.findings.items()
            if defect is not Defect.EMPTY
        ]
        return sum(counts)

    def __str__(self) -> str:
        lines = [line for part in self.parts for line in part.lines()]
        return "\n".join([*lines, f"{self.num_findings or 'no'} defects"])


def check_part(split: str, annotations: Annotations) -> PartCheck:
    """Counts and measures a part's annotations, decodes its pictures and collects the defects of both."""
    names, counted = annotations.class_names, annotations.labels.bincount(minlength=len(annotations.class_names))
    found = [*annotations.findings, *_check_pictures(annotations), *_check_boxes(annotations)]
    findings = {defect: [one.line for one in found if one.defect is defect] for defect in Defect}
    small, large = annotations.area < _MEDIUM, annotations.area >= _LARGE
    return PartCheck(
        split=split,
        images=len(annotations),
        annotations=len(annotations.boxes),
        crowds=int(annotations.crowd.sum()),
        per_class=dict(zip(names, counted.tolist(), strict=True)),
        sizes={"small": int(small.sum()), "medium": int((~small & ~large).sum()), "large": int(large.sum())},
        widths=_quartiles(annotations.extent[:, 0]),
        heights=_quartiles(annotations.extent[:, 1]),
        findings={defect: messages for defect, messages in findings.items() if messages},
    )


def _quartiles(values: Tensor) -> list[float]:
    return np.quantile(values.numpy(), [0, 0.25, 0.5, 0.75, 1]).tolist() if len(values) else []


def _check_pictures(annotations: Annotations) -> list[Finding]:
    """Decodes every picture; also finds the boxes that reach out of it."""
    findings = []
    for index, picture in enumerate(annotations.pictures):
        if annotations.first[index] == annotations.first[index + 1]:
            findings.append(Finding(Defect.EMPTY, f"{picture.path}"))
        size = picture.size
        try:
            height, width = read_image(picture.path, NUM_CHANNELS).shape[-2:]
        except FileNotFoundError:
            findings.append(Finding(Defect.MISSING, f"{picture.file}: its image {picture.path} is missing"))
        except ValueError as error:
            findings.append(Finding(Defect.UNREADABLE, str(error)))
        else:
            size = height, width
            if message := wrong_size(annotations, index, size):
                findings.append(Finding(Defect.SIZE, message))
        if size is not None:
            findings += _outside(annotations, index, size)
    return findings


def _outside(annotations: Annotations, index: int, size: tuple[int, int]) -> list[Finding]:
    first = annotations.first[index]
    boxes = annotations.boxes[first : annotations.first[index + 1]]
    most = torch.tensor([size[1], size[0]] * 2) + _TOLERANCE
    rows = ((boxes < -_TOLERANCE) | (boxes > most)).any(1).nonzero().flatten().tolist()
    return [
        Finding(Defect.OUTSIDE, f"{annotations.where(first + row)} of an image of {size[0]}x{size[1]}") for row in rows
    ]


def _check_boxes(annotations: Annotations) -> list[Finding]:
    degenerate = annotations.degenerate.nonzero().flatten().tolist()
    findings = [Finding(Defect.DEGENERATE, annotations.where(row)) for row in degenerate]
    seen: dict[Sequence[float], int] = {}
    keys = zip(annotations.owners, annotations.labels.tolist(), *annotations.boxes.T.tolist(), strict=True)
    for row, key in enumerate(keys):
        if key in seen:
            findings.append(
                Finding(Defect.DUPLICATE, f"{annotations.where(row)}, as annotation {annotations.numbers[seen[key]]}")
            )
        seen.setdefault(key, row)
    return findings

"""The boxes of many pictures, and what is wrong with them: read once and leniently, whether to train or to check."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor


class Defect(StrEnum):
    """What can be wrong with a data set, in the plural."""

    FILE = "annotation files that are missing or cannot be read"
    RECORD = "incomplete or malformed records"
    DUPLICATE_ID = "ids that are given twice"
    UNKNOWN_IMAGE = "annotations of unknown images"
    UNKNOWN_CATEGORY = "annotations of unknown categories"
    MISSING = "missing images"
    UNREADABLE = "unreadable images"
    SIZE = "images of another size than their annotations say"
    DEGENERATE = "boxes without width or height"
    OUTSIDE = "boxes that reach out of their images"
    DUPLICATE = "boxes that another one repeats (same place, same class)"
    EMPTY = "images without objects"


class Finding(NamedTuple):
    """A defect; the message names the file."""

    defect: Defect
    message: str

    @property
    def line(self) -> str:
        """The message in one line, even where a name in it has several."""
        return " ".join(self.message.splitlines())

    def error(self, others: int = 0) -> ValueError | FileNotFoundError:
        """The error that stops a training.

        Args:
            others: Number of further defects, which the message mentions.
        """
        more = f" (and {others} more defects in this part of the data)" if others else ""
        return (FileNotFoundError if self.defect is Defect.MISSING else ValueError)(self.line + more)


class DefectError(ValueError):
    """A record that has to be left out."""

    def __init__(self, defect: Defect, message: str) -> None:
        super().__init__(message)
        self.defect = defect


class Picture(NamedTuple):
    """A picture, the file with its annotations, and the height and width that are said there (None: they are not)."""

    path: Path
    image_id: int
    file: Path
    size: tuple[int, int] | None = None


class Annotation(NamedTuple):
    """An object: the number of its picture, its box x1, y1, x2, y2 in pixels, and its class's name.

    `number` is what messages call it. Edges lie between pixels: a box of the first pixel alone is 0, 0, 1, 1.
    """

    picture: int
    box: tuple[float, float, float, float]
    category: str
    number: int
    area: float | None = None
    crowd: bool = False


@dataclass
class Reading:
    """What a file, or a folder of files, holds.

    Attributes:
        categories: Name of each category by its id, in the order of the labels.
        pictures: The pictures.
        annotations: The objects, in any order.
        findings: The defects that were met; what they concern is left out.
    """

    categories: dict[int, str] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def add(self, defect: Defect, message: str) -> None:
        """Notes a defect."""
        self.findings.append(Finding(defect, message))


class Annotations:
    """The objects of all pictures as tensors, picture by picture.

    Args:
        reading: What was read.
        class_names: Name of each label, the reading's own if not given; annotations of other classes are left out, and
            are a finding.
    """

    def __init__(self, reading: Reading, class_names: Sequence[str] | None = None) -> None:
        class_names = list(reading.categories.values() if class_names is None else class_names)
        labels = {name: label for label, name in enumerate(class_names)}
        self.class_names = class_names
        self.categories = reading.categories
        self.pictures = reading.pictures
        self.findings = list(reading.findings)
        known = []
        for row in reading.annotations:
            if row.category in labels:
                known.append(row)
            else:
                where = f"{self.pictures[row.picture].file}: annotation {row.number}"
                message = f"{where}: class {row.category!r} is unknown; known are {', '.join(class_names)}"
                self.findings.append(Finding(Defect.UNKNOWN_CATEGORY, message))
        known.sort(key=lambda row: row.picture)
        self.numbers = [row.number for row in known]
        self.boxes = torch.tensor([row.box for row in known], dtype=torch.float32).reshape(-1, 4)
        self.labels = torch.tensor([labels[row.category] for row in known], dtype=torch.long)
        self.crowd = torch.tensor([row.crowd for row in known], dtype=torch.bool)
        self.extent = self.boxes[:, 2:] - self.boxes[:, :2]
        product = self.extent.prod(1).tolist()
        areas = [one if row.area is None else row.area for row, one in zip(known, product, strict=True)]
        self.area = torch.tensor(areas, dtype=torch.float32)
        self.owners = [row.picture for row in known]
        counts = torch.bincount(torch.tensor(self.owners, dtype=torch.long), minlength=len(self.pictures))
        self.first = [0, *counts.cumsum(0).tolist()]

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def degenerate(self) -> Tensor:
        """Which boxes have no width or no height, (boxes,) bool."""
        return (self.extent <= 0).any(1)

    def where(self, row: int) -> str:
        """Names a box for a message."""
        picture, box = self.pictures[self.owners[row]], self.boxes[row].tolist()
        shown = ", ".join(f"{value:g}" for value in box)
        return f"{picture.file}: annotation {self.numbers[row]} of {picture.path.name}, box {shown}"

    def of(self, index: int) -> dict[str, Tensor]:
        """The objects of a picture: `boxes` (n, 4) x1, y1, x2, y2 in its pixels, `labels`, `area` and `crowd` (n,)."""
        rows = slice(self.first[index], self.first[index + 1])
        # copies: a worker process would send the whole storage of a view
        return {name: getattr(self, name)[rows].clone() for name in ("boxes", "labels", "area", "crowd")}

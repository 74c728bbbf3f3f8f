"""The objects of a batch, side by side, and which of them can be learned from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

FARTHEST = 1e3
"""How far from its picture, in the picture's sides, a box may lie."""


@dataclass(frozen=True)
class Targets:
    """The objects of all pictures of a batch, one picture's behind the other's.

    Attributes:
        boxes: Normalised `cx, cy, w, h`, in float32.
        labels: Their classes.
        counts: How many objects each picture has.
        skipped: Numbers of the pictures with a box that is none (a number is not finite, or beyond `FARTHEST`); they
            have no objects here and count in no loss.
    """

    boxes: Float[Tensor, "objects 4"]
    labels: Int[Tensor, " objects"]
    counts: list[int]
    skipped: list[int]

    @property
    def num_objects(self) -> int:
        """Objects of the batch, by which losses are divided."""
        return sum(self.counts)

    def places(self) -> tuple[Int[Tensor, " objects"], Int[Tensor, " objects"]]:
        """Each object's picture, and its number among that picture's objects."""
        picture = torch.repeat_interleave(torch.tensor(self.counts))
        first = torch.tensor(self.counts).cumsum(0) - torch.tensor(self.counts)
        return picture, torch.arange(len(picture)) - first[picture]

    def padded(self) -> tuple[Float[Tensor, "batch most 4"], Int[Tensor, "batch most"], Bool[Tensor, "batch most"]]:
        """Boxes and labels picture by picture, and which slots are padding."""
        picture, number = (x.to(self.boxes.device) for x in self.places())
        shape = (len(self.counts), max(self.counts, default=0))
        boxes, labels = self.boxes.new_full((*shape, 4), 0.5), self.labels.new_zeros(shape)
        padding = torch.ones(shape, dtype=torch.bool, device=self.boxes.device)
        boxes[picture, number], labels[picture, number], padding[picture, number] = self.boxes, self.labels, False
        return boxes, labels, padding


def gather_targets(boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> Targets:
    """Puts the objects of a batch side by side; a picture with a box that is none is skipped.

    Args:
        boxes: For each picture (n, 4), normalised `cx, cy, w, h`.
        labels: For each picture (n,).
    """
    sound = [bool((picture.abs() < FARTHEST).all()) for picture in boxes]
    empty = (boxes[0][:0], labels[0][:0])
    kept = [pair if good else empty for *pair, good in zip(boxes, labels, sound, strict=True)]
    return Targets(
        boxes=torch.cat([picture for picture, _ in kept]).float(),
        labels=torch.cat([picture for _, picture in kept]),
        counts=[len(picture) for _, picture in kept],
        skipped=[number for number, good in enumerate(sound) if not good],
    )

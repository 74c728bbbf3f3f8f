"""Means as sums and counts: batches, parts of a batch and processes are joined exactly, however unequal they are."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from tasks.processes import averaged, gathered


class Mean(NamedTuple):
    """A mean that is not yet divided.

    Attributes:
        total: The sum.
        count: What it is divided by, of the same shape; a sum of nothing is divided by 1.
    """

    total: Tensor
    count: Tensor  # pyright: ignore[reportIncompatibleMethodOverride] - no one counts in a pair

    @classmethod
    def of(cls, total: Tensor, count: Tensor | float) -> "Mean":
        """A sum with its count, which need be neither a tensor nor of the sum's shape."""
        return cls(total, torch.as_tensor(count, dtype=torch.float, device=total.device).expand_as(total))

    @property
    def value(self) -> Tensor:
        """The mean itself."""
        return _divided(self.total, self.count)


class Means:
    """Collects means of batches by name, in float64."""

    def __init__(self) -> None:
        self._every: dict[str, Mean] = {}

    def update(self, means: Mapping[str, Mean]) -> None:
        """Takes those of a batch in."""
        self._add({name: Mean(*(x.detach().cpu().double() for x in mean)) for name, mean in means.items()})

    def gather(self) -> dict[str, Tensor]:
        """The means over all batches of all processes, which all have to ask; then there are none."""
        parts, self._every = gathered(self._every), {}
        every = Means()
        for part in parts:
            every._add(part)
        return {name: mean.value.float() for name, mean in every._every.items()}

    def _add(self, means: Mapping[str, Mean]) -> None:
        for name, (total, count) in means.items():
            before = self._every.get(name)
            self._every[name] = (
                Mean(total, count) if before is None else Mean(before.total + total, before.count + count)
            )


def shares(means: Mapping[str, Mean]) -> dict[str, Tensor]:
    """What each process is to learn from: the average of its values over the processes is the mean over all of them.

    So are the gradients, which are averaged too: a sum is divided by the mean of the counts of all processes (as DETR
    does with its boxes; Carion et al. 2020), and no process weighs more for having less.

    Args:
        means: Of a batch; of the same names and shapes in all processes, which all have to ask.
    """
    counts = averaged(torch.cat([mean.count.flatten() for mean in means.values()]))
    parts = counts.split([mean.count.numel() for mean in means.values()])
    return {
        name: _divided(mean.total, count.view_as(mean.total))
        for (name, mean), count in zip(means.items(), parts, strict=True)
    }


def _divided(total: Tensor, count: Tensor) -> Tensor:
    return total / torch.where(count > 0, count, 1.0)

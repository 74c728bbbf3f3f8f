"""What the training part tells of the size of values: their mean and deviation, and the error of seasonal-naive."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

_BLOCK = 2**18  # rows looked at together, so that memory does not grow with their number


@dataclass(frozen=True, eq=False)
class Scaler:
    """Brings columns to mean 0 and deviation 1: (x - mean) / std.

    Args:
        mean: Mean of each column.
        std: Population standard deviation of each, as of sklearn's StandardScaler.
    """

    mean: Float64[np.ndarray, " columns"]
    std: Float64[np.ndarray, " columns"]

    @classmethod
    def fit(
        cls, values: Float[np.ndarray, "rows columns"], chosen: Bool[np.ndarray, " rows"], names: Sequence[str]
    ) -> "Scaler":
        """Measures the chosen rows; what is missing (NaN) does not count.

        A column that is constant gets the deviation 1, one that is missing altogether the mean 0 as well.

        Args:
            values: One row a time step.
            chosen: The rows to look at.
            names: Of the columns, for messages.

        Raises:
            ValueError: If the numbers of a column are too large or too small for 32 bits.
        """
        blocks = [slice(begin, begin + _BLOCK) for begin in range(0, len(values), _BLOCK)]
        count, total, squares = np.zeros((3, values.shape[1]))
        least, greatest = np.array([[np.inf], [-np.inf]]).repeat(values.shape[1], axis=1)
        for block in blocks:
            rows = values[block][chosen[block]]
            count += (~np.isnan(rows)).sum(axis=0)
            total += np.nansum(rows, axis=0)
            least = np.fmin(least, np.fmin.reduce(rows, axis=0, initial=np.inf))
            greatest = np.fmax(greatest, np.fmax.reduce(rows, axis=0, initial=-np.inf))
        mean = np.where(count > 0, np.clip(total / np.maximum(count, 1), least, greatest), 0)
        with np.errstate(over="ignore"):  # told below
            for block in blocks:
                squares += np.nansum(np.square(values[block][chosen[block]] - mean), axis=0)
        std = np.where(greatest > least, np.sqrt(squares / np.maximum(count, 1)), 1)
        _check_range(mean, std, names)
        return cls(mean, std)

    def __call__(self, values: Float[np.ndarray, "*rows columns"]) -> Float32[np.ndarray, "*rows columns"]:
        """Scales in 64 bits, and rounds to 32 only then."""
        scaled = np.empty(values.shape, np.float32)
        for begin in range(0, len(values), _BLOCK):
            scaled[begin : begin + _BLOCK] = (values[begin : begin + _BLOCK] - self.mean) / self.std
        return scaled

    def repeat(self, batch_size: int) -> dict[str, Float32[Tensor, "batch columns"]]:
        """Gives `mean` and `std` for each sample of a batch."""
        parts = {"mean": self.mean, "std": self.std}
        return {name: torch.from_numpy(values).float().repeat(batch_size, 1) for name, values in parts.items()}


def rows_of(
    starts: Int64[np.ndarray, " series_and_end"],
    begin: Int64[np.ndarray, " series"],
    end: Int64[np.ndarray, " series"],
) -> Bool[np.ndarray, " rows"]:
    """Marks the rows `begin` to `end - 1` of each series.

    >>> rows_of(np.array([0, 3, 5]), np.array([1, 0]), np.array([3, 1])).tolist()
    [False, True, True, True, False]
    """
    lengths = np.stack([begin, end - begin, np.diff(starts) - end], axis=1)
    return np.repeat(np.tile([False, True, False], len(begin)), lengths.ravel())


def naive_errors(
    values: Float[np.ndarray, "rows channels"],
    starts: Int64[np.ndarray, " series_and_end"],
    ends: Int64[np.ndarray, " series"],
    season_length: int,
) -> tuple[Float64[np.ndarray, "series channels"], Float64[np.ndarray, " channels"]]:
    """Mean absolute error of the value one season before: the mean of |y_t - y_(t-m)|, the denominator of MASE.

    MASE is that of Hyndman and Koehler (2006), "Another look at measures of forecast accuracy"; m is the season.

    Args:
        values: One row a time step; NaN = missing.
        starts: Rows of series i are `starts[i] : starts[i + 1]`.
        ends: Rows of each series that count, from its first on: the training part.
        season_length: Steps of a season.

    Returns:
        The errors of each series, and over all series together; 0 where there are no two values to compare.

    >>> naive_errors(np.array([[1.0], [2.0], [5.0]]), np.array([0, 3]), np.array([3]), 1)[1]
    array([2.])
    """
    num_series, num_channels = len(ends), values.shape[1]
    rows = np.flatnonzero(rows_of(starts, np.minimum(season_length, ends), ends))
    sums, counts = np.zeros((2, num_series, num_channels))
    for begin in range(0, len(rows), _BLOCK):
        block = rows[begin : begin + _BLOCK]
        errors = np.abs(values[block] - values[block - season_length]).astype(np.float64)
        series = np.searchsorted(starts, block, side="right") - 1
        known = ~np.isnan(errors)
        for channel in range(num_channels):
            kept = known[:, channel]
            counts[:, channel] += np.bincount(series[kept], minlength=num_series)
            sums[:, channel] += np.bincount(series[kept], errors[kept, channel], minlength=num_series)
    return sums / np.maximum(counts, 1), sums.sum(axis=0) / np.maximum(counts.sum(axis=0), 1)


def _check_range(mean: np.ndarray, std: np.ndarray, names: Sequence[str]) -> None:
    limits = np.finfo(np.float32)
    fits = (np.abs(mean) < limits.max) & (std < limits.max) & (std > limits.tiny)
    if not fits.all():
        column = int(np.flatnonzero(~fits)[0])
        raise ValueError(
            f"column {names[column]!r} has values about {mean[column]:.3g} with deviation {std[column]:.3g}, beyond "
            "what 32-bit numbers hold; bring it to another unit"
        )

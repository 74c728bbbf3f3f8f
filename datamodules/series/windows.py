"""Windows of series: a history and the future after it, numbered by arithmetic and copied only when a batch is made."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Float32, Int64
from numpy.lib.stride_tricks import sliding_window_view
from torch.utils.data import Dataset

from datamodules.series.scaling import Scaler
from datamodules.series.series import SeriesSet

_BLOCK = 2**18  # windows looked at together


@dataclass(frozen=True, eq=False)
class Origins:
    """The origins of windows, a window's first future rows: of series i `first[i]`, `first[i] + stride`, ...

    They are numbered from 0 over all series, and no list of them is kept.

    Args:
        first: Row of each series, counted within it, of its first origin.
        counts: Number of origins of each series.
        stride: Rows from an origin to the next.
        left_out: Numbers, ascending, that are skipped.
    """

    first: Int64[np.ndarray, " series"]
    counts: Int64[np.ndarray, " series"]
    stride: int = 1
    left_out: Int64[np.ndarray, " left_out"] = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def between(
        cls, first: Int64[np.ndarray, " series"], last: Int64[np.ndarray, " series"], *, stride: int = 1
    ) -> "Origins":
        """The origins from `first` to `last` of each series, which has none where `last` is the lesser.

        >>> len(Origins.between(np.array([4, 9]), np.array([7, 8]), stride=2))
        2
        """
        return cls(first, np.maximum((last - first) // stride + 1, 0), stride)

    def __len__(self) -> int:
        return int(self.counts.sum()) - len(self.left_out)

    def locate(
        self, numbers: Int64[np.ndarray, " windows"]
    ) -> tuple[Int64[np.ndarray, " windows"], Int64[np.ndarray, " windows"]]:
        """Gives the series of each number, and its origin in it."""
        if len(self.left_out):
            kept_before = self.left_out - np.arange(len(self.left_out))
            numbers = numbers + np.searchsorted(kept_before, numbers, side="right")
        ends = np.cumsum(self.counts)
        series = np.searchsorted(ends, numbers, side="right")
        return series, self.first[series] + (numbers - ends[series] + self.counts[series]) * self.stride

    def with_future(self, series: SeriesSet, prediction_length: int) -> "Origins":
        """Leaves out those whose whole future is missing."""
        known = ~np.isnan(series.values).all(axis=1)
        if known.all():
            return self
        before = np.concatenate([[0], np.cumsum(known, dtype=np.int32)])  # known rows before each row
        left_out = []
        for begin in range(0, len(self), _BLOCK):
            numbers = np.arange(begin, min(begin + _BLOCK, len(self)))
            which, origin = self.locate(numbers)
            row = series.starts[which] + origin
            left_out.append(numbers[before[row + prediction_length] == before[row]])
        return replace(self, left_out=np.concatenate(left_out)) if left_out else self


@dataclass(frozen=True, eq=False)
class SeasonalNaive:
    """The forecast that repeats the last season before the origin, and how far off it is in the training part.

    Step h (from 0) after the origin o is the value at o - m + (h mod m), where m is the length of a season.

    Args:
        season_length: Steps of a season.
        errors: Mean absolute error of the value one season before, in standardised units.
    """

    season_length: int
    errors: Float32[np.ndarray, "series channels"]

    def rows(self, origins: Int64[np.ndarray, " batch"], prediction_length: int) -> Int64[np.ndarray, "batch horizon"]:
        """The rows that are repeated; negative where a series has no season before the origin."""
        return (origins - self.season_length)[:, None] + np.arange(prediction_length) % self.season_length


def gather(
    table: Float[np.ndarray, "rows columns"],
    starts: Int64[np.ndarray, " series_and_end"],
    series: Int64[np.ndarray, " batch"],
    begin: Int64[np.ndarray, " batch"],
    length: int,
) -> tuple[Float[np.ndarray, "batch length columns"], Bool[np.ndarray, "batch length columns"]]:
    """Copies rows `begin` to `begin + length - 1` of series out of a table.

    Args:
        table: The rows of all series, one series after the other.
        starts: Rows of series i are `starts[i] : starts[i + 1]`.
        series: Number of the series of each piece.
        begin: First row of each piece, counted within its series; rows that a series has not are NaN.
        length: Rows of a piece.

    Returns:
        The rows, and where a value is missing (NaN).
    """
    first, end = starts[series], starts[series + 1]
    row, columns = first + begin, table.shape[1]
    if len(series) and (begin >= 0).all() and (row + length <= end).all():  # one piece of memory each
        pieces = sliding_window_view(table.reshape(-1), length * columns)
        values = pieces[row * columns].reshape(-1, length, columns)
    else:
        rows = row[:, None] + np.arange(length)
        values = table[rows.clip(0, len(table) - 1)]
        values[(rows < first[:, None]) | (rows >= end[:, None])] = np.nan
    return values, np.isnan(values)


def times_of(
    series: SeriesSet,
    which: Int64[np.ndarray, " batch"],
    origin: Int64[np.ndarray, " batch"],
    context_length: int,
    prediction_length: int,
) -> dict[str, list[pd.DatetimeIndex]]:
    """Gives `past_times` and `future_times` of each origin in a series."""
    steps = context_length + prediction_length
    places = zip(which.tolist(), origin.tolist(), strict=True)
    times = [series.times(number, row - context_length, steps) for number, row in places]
    return {
        "past_times": [each[:context_length] for each in times],
        "future_times": [each[context_length:] for each in times],
    }


class Windows(Dataset):
    """Whole batches of windows: ask `__getitems__` for a batch, whose keys are numbers or `(number, seed)`.

    A batch has `past` (batch, context_length, channels) and `future` (batch, prediction_length, channels) standardised,
    with `past_mask` and `future_mask`, True where a value is missing, which is 0 there; `covariates` (batch,
    context_length + prediction_length, covariates), where there are any; `mean` and `std` (batch, channels), which give
    the data's own units. A history that a series has not is missing.

    With a baseline also `naive` and `naive_mask` (batch, prediction_length, channels), the baseline's forecast and
    where there is none, `naive_error` (batch, channels), and `series` and `origin` (batch,). With times also
    `past_times` and `future_times`, for each window the times of its steps.

    Args:
        series: Standardised values and covariates; they are shared, never copied.
        origins: Where the windows' futures begin.
        context_length: Steps of history.
        prediction_length: Steps of future.
        scaler: What the values were standardised by.
        baseline: The forecast to compare with.
        times: Whether the batches have times.
    """

    def __init__(
        self,
        series: SeriesSet,
        origins: Origins,
        *,
        context_length: int,
        prediction_length: int,
        scaler: Scaler,
        baseline: SeasonalNaive | None = None,
        times: bool = False,
    ) -> None:
        self.series = series
        self.origins = origins
        self.context_length = context_length
        self.prediction_length = prediction_length
        self.scaler = scaler
        self.baseline = baseline
        self.times = times

    def __len__(self) -> int:
        return len(self.origins)

    def __getitems__(self, keys: Sequence[int] | Sequence[tuple[int, int]]) -> dict[str, Any]:
        """Gathers a batch."""
        numbers = np.asarray(keys, np.int64).reshape(len(keys), -1)[:, 0]
        series, origin = self.origins.locate(numbers)
        begin, length = origin - self.context_length, self.context_length + self.prediction_length
        batch: dict[str, Any] = self._values("past", series, begin, self.context_length)
        batch |= self._values("future", series, origin, self.prediction_length)
        batch |= self.scaler.repeat(len(series))
        if self.series.covariates.shape[1]:
            known, missing = gather(self.series.covariates, self.series.starts, series, begin, length)
            known[missing] = 0
            batch["covariates"] = torch.from_numpy(known)
        if self.baseline is not None:
            batch |= self._naive(self.baseline, series, origin)
        if self.times:
            batch |= times_of(self.series, series, origin, self.context_length, self.prediction_length)
            batch["names"] = [self.series.names[each] for each in series]
            batch["channel_names"] = self.series.channel_names
        return batch

    def _values(self, name: str, series: np.ndarray, begin: np.ndarray, length: int) -> dict[str, torch.Tensor]:
        values, missing = gather(self.series.values, self.series.starts, series, begin, length)
        values[missing] = 0
        return {name: torch.from_numpy(values), f"{name}_mask": torch.from_numpy(missing)}

    def _naive(self, baseline: SeasonalNaive, series: np.ndarray, origin: np.ndarray) -> dict[str, torch.Tensor]:
        rows = baseline.rows(origin, self.prediction_length)
        values = self.series.values[(self.series.starts[series, None] + rows).clip(0)]
        missing = np.isnan(values) | (rows < 0)[:, :, None]
        values[missing] = 0
        return {
            "naive": torch.from_numpy(values),
            "naive_mask": torch.from_numpy(missing),
            "naive_error": torch.from_numpy(baseline.errors[series]),
            "series": torch.from_numpy(series),
            "origin": torch.from_numpy(origin),
        }

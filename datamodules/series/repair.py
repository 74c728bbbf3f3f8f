"""Brings rows onto regular grids of time: sorts them, drops rows that are there twice, and fills what is missing."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from lightning_utilities.core.rank_zero import rank_zero_warn

from datamodules.series.frequency import ClockStep, Days, Step
from datamodules.series.rows import Fill, Rows, hint

_MOST_GROWTH = 20  # times as many rows as there were are a wrong time, not a gap
_APART = 2  # steps between one series and the next on the axis that all share
_BLOCK = 2**20  # rows that are filled at a time


@dataclass(frozen=True, eq=False)
class Grids:
    """Rows of regular series.

    Args:
        first: Time of the first row of each series.
        values: NaN = missing.
        starts: Rows of series i are `starts[i] : starts[i + 1]`.
    """

    first: Int64[np.ndarray, " series"]
    values: Float64[np.ndarray, "rows columns"]
    starts: Int64[np.ndarray, " series_and_end"]


def sort_times(rows: Rows) -> Rows:
    """Sorts the rows of each series by time, if they are not."""
    if (np.diff(rows.times)[rows.inner()] >= 0).all():
        return rows
    return rows.select(np.lexsort((rows.times, rows.series())))


def fill_times(rows: Rows, step: Step, fill: Fill, *, num_values: int) -> Grids:
    """Gives each time of each series' grid a row, and fills what is missing.

    `mask` leaves it missing (NaN); rows whose time is none of the grid's are left out, and a warning counts them.
    `ffill` takes the last known value before, `interpolate` the line in time between the last known and the next:
    **it looks ahead**, also from one part of the data into the next. Both use rows of any time, and fill empty cells
    as well. Neither goes before the first known value, `interpolate` not beyond the last, and `ffill` not beyond the
    last row that has any of the values: those after it are the future, of which only covariates are known.

    Args:
        rows: Sorted by time in each series.
        step: Step of the grids.
        fill: What to do.
        num_values: How many of the columns, from the left, are values and no covariates.

    Raises:
        ValueError: If two rows of one time differ, or times are so far apart that one of them must be wrong.
    """
    rows = _drop_twice(rows)
    axis = _lay(rows, step)
    if fill == "mask":
        return Grids(axis.first, _mask(rows, axis), axis.starts)
    values = np.empty((axis.starts[-1], rows.values.shape[1]))
    for column in range(values.shape[1]):
        _fill_column(rows.values[:, column], rows.starts, axis, fill, out=values[:, column])
    if fill == "ffill":
        last = np.full(len(rows.names), -np.inf)  # of each series, where any value is known
        known = ~np.isnan(rows.values[:, :num_values]).all(axis=1)
        np.maximum.at(last, rows.series()[known], axis.place[known])
        for block, series, place in axis.blocks():
            values[block, :num_values][place > last[series]] = np.nan
    return Grids(axis.first, values, axis.starts)


@dataclass(frozen=True, eq=False)
class _Axis:
    """One axis that all series lie on, one after another, in steps of their grids.

    Args:
        first: Time of the first grid point of each series.
        starts: Grid points of series i are `starts[i] : starts[i + 1]`.
        place: Where each row of the table lies.
        exact: Whether it lies on a grid point.
    """

    first: Int64[np.ndarray, " series"]
    starts: Int64[np.ndarray, " series_and_end"]
    place: Float64[np.ndarray, " rows"]
    exact: Bool[np.ndarray, " rows"]

    def blocks(self) -> Iterator[tuple[slice, Int64[np.ndarray, " block"], Int64[np.ndarray, " block"]]]:
        """The grid points, some at a time so that memory is bounded: which, their series, and where they lie."""
        for begin in range(0, int(self.starts[-1]), _BLOCK):
            points = np.arange(begin, min(begin + _BLOCK, self.starts[-1]))
            series = np.searchsorted(self.starts, points, side="right") - 1
            yield slice(begin, begin + _BLOCK), series, points + _APART * series


def _lay(rows: Rows, step: Step) -> _Axis:
    anchor = _anchors(rows, step)
    spread = np.repeat(anchor, np.diff(rows.starts))
    number = step.number(spread, rows.times)
    begin = step.time(spread, number)
    exact = begin == rows.times
    place = number.astype(np.float64)
    off = np.flatnonzero(~exact)
    length = step.time(spread[off], number[off] + 1) - begin[off]
    place[off] += (rows.times[off] - begin[off]) / length
    lowest = number[rows.starts[:-1]] + ~exact[rows.starts[:-1]]
    counts = np.maximum(number[rows.starts[1:] - 1] - lowest + 1, 0)
    _check_growth(rows, counts)
    starts = np.concatenate([[0], np.cumsum(counts)])
    place += np.repeat(starts[:-1] + _APART * np.arange(len(counts)) - lowest, np.diff(rows.starts))
    return _Axis(step.time(anchor, lowest), starts, place, exact)


def _mask(rows: Rows, axis: _Axis) -> Float64[np.ndarray, "grid columns"]:
    values = np.full((axis.starts[-1], rows.values.shape[1]), np.nan)
    point = axis.place.astype(np.int64) - _APART * rows.series()
    values[point[axis.exact]] = rows.values[axis.exact]
    if left_out := int((~axis.exact).sum()):
        row = int(np.argmin(axis.exact))
        rank_zero_warn(
            f"{rows.source.path}: fill=mask leaves out {left_out:,} of {len(point):,} rows, whose times are irregular; "
            f"the first is {rows.place(row)}"
        )
    return values


def _fill_column(
    values: Float64[np.ndarray, " rows"],
    starts: Int64[np.ndarray, " series_and_end"],
    axis: _Axis,
    fill: Fill,
    *,
    out: Float64[np.ndarray, " grid"],
) -> None:
    """Fills one column of all series at once."""
    known = np.flatnonzero(~np.isnan(values))
    values, place = values[known], axis.place[known]
    known_starts = np.searchsorted(known, starts)
    if not len(known):
        out[:] = np.nan
        return
    for block, series, points in axis.blocks():
        before = np.searchsorted(place, points, side="right") - 1
        inside = before >= known_starts[series]
        if fill == "ffill":
            out[block] = np.where(inside, values[before], np.nan)
        else:
            inside &= points <= place[known_starts[series + 1] - 1]
            out[block] = np.where(inside, np.interp(points, place, values), np.nan)


def _drop_twice(rows: Rows) -> Rows:
    """Drops rows that are there twice.

    Raises:
        ValueError: If two rows of one series and time differ.
    """
    twice = np.flatnonzero(rows.inner() & (np.diff(rows.times) == 0))
    if not len(twice):
        return rows
    one, other = rows.values[twice], rows.values[twice + 1]
    differ = ~((one == other) | (np.isnan(one) & np.isnan(other))).all(axis=1)
    if differ.any():
        row = int(twice[np.argmax(differ)])
        raise ValueError(
            f"{rows.source.path}: {rows.place(row)} and {rows.place(row + 1)}{rows.of_series(row)} have one time and "
            f"different values ({differ.sum():,} such pairs): delete the wrong one{hint(rows, row, twice=True)}"
        )
    keep = np.ones(len(rows.times), bool)
    keep[twice + 1] = False
    return rows.select(np.flatnonzero(keep))


def _anchors(rows: Rows, step: Step) -> Int64[np.ndarray, " series"]:
    """A time on the grid of each series: its first, unless that is one of the few that are irregular."""
    anchors = rows.times[rows.starts[:-1]].copy()
    if not isinstance(step, ClockStep | Days):
        return anchors
    size = int(step.time(np.array(0), np.array(1)))
    phase = rows.times % size
    agrees = phase == np.repeat(phase[rows.starts[:-1]], np.diff(rows.starts))
    share = np.add.reduceat(agrees, rows.starts[:-1], dtype=np.int64) / np.diff(rows.starts)
    for series in np.flatnonzero(share < 0.5):
        phases, counts = np.unique(phase[rows.starts[series] : rows.starts[series + 1]], return_counts=True)
        usual = phases[np.argmax(counts)] if 2 * counts.max() > counts.sum() else 0
        anchors[series] -= (anchors[series] - usual) % size
    return anchors


def _check_growth(rows: Rows, counts: Int64[np.ndarray, " series"]) -> None:
    had = np.diff(rows.starts)
    if counts.sum() <= _MOST_GROWTH * had.sum() + 10_000:
        return
    series = int(np.argmax(counts - had))
    row = int(rows.starts[series] + np.argmax(np.diff(rows.times[rows.starts[series] : rows.starts[series + 1]])))
    raise ValueError(
        f"{rows.source.path}: {rows.place(row)} and {rows.place(row + 1)}{rows.of_series(row)} are so far apart that "
        f"{counts.sum():,} rows would fill {had.sum():,}: correct the time, or name a longer --data.layout.frequency"
    )

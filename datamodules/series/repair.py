"""Brings rows onto regular grids of time: sorts them, drops rows that are there twice, and fills what is missing."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from lightning_utilities.core.rank_zero import rank_zero_warn

from datamodules.series.frequency import ClockStep, Days, Step
from datamodules.series.rows import Fill, Rows

_MOST_GROWTH = 20  # times as many rows as there were are a wrong time, not a gap
_APART = 2  # steps between one series and the next on the axis that all share


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
    anchor = _anchors(rows, step)
    spread = np.repeat(anchor, np.diff(rows.starts))
    number = step.number(spread, rows.times)
    begin = step.time(spread, number)
    exact = begin == rows.times
    with np.errstate(invalid="ignore"):
        part = (rows.times - begin) / (step.time(spread, number + 1) - begin)
    lowest = number[rows.starts[:-1]] + ~exact[rows.starts[:-1]]
    counts = np.maximum(number[rows.starts[1:] - 1] - lowest + 1, 0)
    _check_growth(rows, counts)
    starts = np.concatenate([[0], np.cumsum(counts)])
    shift = starts[:-1] + _APART * np.arange(len(counts)) - lowest
    place = number + part + np.repeat(shift, np.diff(rows.starts))
    axis = np.arange(starts[-1]) + _APART * np.repeat(np.arange(len(counts)), counts)
    if fill == "mask":
        return Grids(step.time(anchor, lowest), _mask(rows, place, exact, axis), starts)
    last = np.full(len(counts), -np.inf)  # of each series, where any value is known
    known = ~np.isnan(rows.values[:, :num_values]).all(axis=1)
    np.maximum.at(last, rows.series()[known], place[known])
    series = np.repeat(np.arange(len(counts)), counts)
    values = np.empty((len(axis), rows.values.shape[1]))
    for column in range(values.shape[1]):
        values[:, column] = _fill_column(rows.values[:, column], place, rows.series(), axis, series, fill)
    if fill == "ffill":
        values[axis > last[series], :num_values] = np.nan
    return Grids(step.time(anchor, lowest), values, starts)


def _mask(
    rows: Rows, place: Float64[np.ndarray, " rows"], exact: Bool[np.ndarray, " rows"], axis: Int64[np.ndarray, " grid"]
) -> Float64[np.ndarray, "grid columns"]:
    values = np.full((len(axis), rows.values.shape[1]), np.nan)
    values[np.searchsorted(axis, place[exact])] = rows.values[exact]
    if left_out := int((~exact).sum()):
        row = int(np.argmin(exact))
        rank_zero_warn(
            f"{rows.source.path}: fill=mask leaves out {left_out:,} of {len(exact):,} rows, whose times are irregular; "
            f"the first is {rows.place(row)}"
        )
    return values


def _fill_column(
    values: Float64[np.ndarray, " rows"],
    place: Float64[np.ndarray, " rows"],
    owner: Int64[np.ndarray, " rows"],
    axis: Int64[np.ndarray, " grid"],
    series: Int64[np.ndarray, " grid"],
    fill: Fill,
) -> Float64[np.ndarray, " grid"]:
    """Fills one column of all series at once, on an axis where they lie one after another."""
    known = ~np.isnan(values)
    values, place, owner = values[known], place[known], owner[known]
    if not len(values):
        return np.full(len(axis), np.nan)
    before = np.searchsorted(place, axis, side="right") - 1
    same = (before >= 0) & (owner[before] == series)
    if fill == "ffill":
        return np.where(same, values[before], np.nan)
    after = np.minimum(before + (place[before] < axis), len(place) - 1)
    same &= (owner[after] == series) & (place[after] >= axis)
    return np.where(same, np.interp(axis, place, values), np.nan)


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
            f"different values ({differ.sum():,} such pairs): delete the wrong one"
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

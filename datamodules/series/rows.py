"""The rows of a table in memory, series by series, and what is wrong with their times."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64

from datamodules.series.frequency import Step
from datamodules.series.sources import Source

Fill = Literal["ffill", "interpolate", "mask"]
FILL_CHOICES = "--data.fill=ffill|interpolate|mask"
"""What a message offers where times are wrong."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a table, series by series.

    Args:
        source: The table.
        names: Id of each series.
        times: Microseconds since 1970; of UTC, or as clocks on the wall show them.
        values: What the table says of these times; NaN = missing.
        starts: Rows of series i are `starts[i] : starts[i + 1]`.
        order: Which row of the table each is; None where they lie as in the table.
        zone: The timezone that times of UTC are shown in; None where they are as clocks show them.
    """

    source: Source
    names: list[str]
    times: Int64[np.ndarray, " rows"]
    values: Float64[np.ndarray, "rows columns"]
    starts: Int64[np.ndarray, " series_and_end"]
    order: Int64[np.ndarray, " rows"] | None
    zone: str | None = None

    def series(self) -> Int64[np.ndarray, " rows"]:
        """The series of each row."""
        return np.repeat(np.arange(len(self.names)), np.diff(self.starts))

    def inner(self) -> Bool[np.ndarray, " rows_less_one"]:
        """Whether each row and the next are of one series."""
        return within_series(self.starts)

    def select(self, rows: np.ndarray) -> "Rows":
        """Takes some rows, which must be series by series."""
        counts = np.bincount(self.series()[rows], minlength=len(self.names))
        order = np.arange(len(self.times)) if self.order is None else self.order
        starts = np.concatenate([[0], np.cumsum(counts)])
        return replace(self, times=self.times[rows], values=self.values[rows], starts=starts, order=order[rows])

    def place(self, row: int) -> str:
        """Says where in the table a row is, and its time."""
        return f"{self.source.place(int(row if self.order is None else self.order[row]))} ({self.show(row)})"

    def show(self, row: int) -> str:
        """Says the time of a row."""
        time = pd.Timestamp(self.times[row], unit="us")
        return str(time if self.zone is None else time.tz_localize("UTC").tz_convert(self.zone))

    def of_series(self, row: int) -> str:
        """Says of which series a row is, where there are several."""
        name = self.names[np.searchsorted(self.starts, row, side="right") - 1]
        return f" of series {name!r}" if len(self.names) > 1 else ""


def within_series(starts: Int64[np.ndarray, " series_and_end"]) -> Bool[np.ndarray, " rows_less_one"]:
    """Whether each row and the next are of one series.

    >>> within_series(np.array([0, 2, 3])).tolist()
    [True, False]
    """
    inner = np.ones(max(starts[-1] - 1, 0), bool)
    inner[starts[1:-1] - 1] = False
    return inner


def check_times(rows: Rows, step: Step) -> None:
    """Makes sure that each series has each time of its grid once and no other, in order.

    Raises:
        ValueError: If not: one line that names the first rows that are wrong, and the choices.
    """
    first = np.repeat(rows.times[rows.starts[:-1]], np.diff(rows.starts))
    number = np.arange(len(rows.times)) - np.repeat(rows.starts[:-1], np.diff(rows.starts))
    if (step.time(first, number) == rows.times).all():
        return
    inner, difference = rows.inner(), np.diff(rows.times)
    behind, twice = inner & (difference < 0), inner & (difference == 0)
    irregular = inner & (rows.times != step.time(first, step.number(first, rows.times)))[1:]
    name = step.alias(int(rows.times[0]))
    if behind.any():
        wrong, what = behind, "{} is earlier than {}: times are not in order"
    elif twice.any():
        wrong, what = twice, "{} has the same time as {}"
    elif irregular.any():
        wrong, what = irregular, f"{{}} is irregular: the step of time from {{}} on is {name}"
    else:
        wrong = inner & (np.diff(step.number(first, rows.times)) != 1)
        what = f"times are missing before {{}} and after {{}}: the step is {name}"
    row = int(np.argmax(wrong))
    reference = int(rows.starts[rows.series()[row]]) if wrong is irregular else row
    message = what.format(rows.place(row + 1) + rows.of_series(row), rows.place(reference))
    more = f"; {wrong.sum() - 1:,} more such rows" if wrong.sum() > 1 else ""
    also = hint(rows, row, twice=wrong is twice, days=wrong is irregular and not step.clock)
    raise ValueError(f"{rows.source.path}: {message}{more}: choose {FILL_CHOICES}{also}")


def hint(rows: Rows, row: int, *, twice: bool = False, days: bool = False) -> str:
    """Says what else times may mean that are wrong at a row and the next."""
    times = pd.DatetimeIndex(rows.times[row : row + 2].view("M8[us]"))
    changed = days or ((times.weekday == 6) & (times.hour <= 3)).any()  # in most places clocks change on such a night
    if changed and rows.zone in (None, "UTC"):
        return "; or, if clocks changed there, name the place by --data.layout.timezone, such as Europe/London"
    if twice and rows.names == [""]:
        return "; or, if the table holds several series, name the column that tells them apart: --data.layout.id_column"
    return ""

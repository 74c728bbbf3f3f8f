"""Steps of time: a grid of times is an anchor and a step, and each of its times has a whole number."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int64
from pandas.tseries.frequencies import to_offset

_SECOND = 10**6  # times are whole microseconds since 1970
DAY = 86_400 * _SECOND
"""Microseconds of a day."""
_WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_UNITS = {"h": 3600 * _SECOND, "min": 60 * _SECOND, "s": _SECOND, "ms": 1000, "us": 1}


class Step(ABC):
    """What lies between a time and the next: time number `n` of a grid is `n` steps after its anchor.

    Times are whole microseconds since 1970: of UTC where the step is a `clock` step, and as a calendar and a clock on
    the wall show them otherwise (a day is a day there, though it may have 23 or 25 hours).
    """

    clock: bool = False

    @abstractmethod
    def time(self, anchor: Int64[np.ndarray, "..."], number: Int64[np.ndarray, "..."]) -> Int64[np.ndarray, "..."]:
        """The times that are so many steps after the anchor."""

    @abstractmethod
    def number(self, anchor: Int64[np.ndarray, "..."], time: Int64[np.ndarray, "..."]) -> Int64[np.ndarray, "..."]:
        """How many whole steps after the anchor the times are, rounded down."""

    @abstractmethod
    def alias(self, anchor: int) -> str:
        """What pandas calls the step of a grid with this anchor."""


@dataclass(frozen=True)
class ClockStep(Step):
    """A number of microseconds, less than a day: clocks that go forward or back do not touch it."""

    microseconds: int
    clock = True

    def time(self, anchor: Int64[np.ndarray, "..."], number: Int64[np.ndarray, "..."]) -> Int64[np.ndarray, "..."]:
        """Adds so many steps."""
        return anchor + number * self.microseconds

    def number(self, anchor: Int64[np.ndarray, "..."], time: Int64[np.ndarray, "..."]) -> Int64[np.ndarray, "..."]:
        """Divides by the step."""
        return (time - anchor) // self.microseconds

    def alias(self, anchor: int) -> str:  # noqa: ARG002 - an hour is an hour
        """Gives the largest unit, as `h`, `30min`, `15s`."""
        name, unit = next((name, unit) for name, unit in _UNITS.items() if self.microseconds % unit == 0)
        return _counted(self.microseconds // unit, name)


@dataclass(frozen=True)
class Days(Step):
    """A number of days on the calendar."""

    count: int

    def time(self, anchor: Int64[np.ndarray, "..."], number: Int64[np.ndarray, "..."]) -> Int64[np.ndarray, "..."]:
        """Adds so many steps."""
        return anchor + number * (self.count * DAY)

    def number(self, anchor: Int64[np.ndarray, "..."], time: Int64[np.ndarray, "..."]) -> Int64[np.ndarray, "..."]:
        """Divides by the step."""
        return (time - anchor) // (self.count * DAY)

    def alias(self, anchor: int) -> str:
        """Gives `D`, `2D`, or where they are weeks `W-SAT`, `2W-SAT`."""
        weeks, rest = divmod(self.count, 7)
        weekday = _WEEKDAYS[(anchor // DAY + 3) % 7]  # day 0 is a Thursday
        return _counted(self.count, "D") if rest else _counted(weeks, f"W-{weekday}")


@dataclass(frozen=True)
class BusinessDays(Step):
    """A number of days from Monday to Friday."""

    count: int

    def time(self, anchor: Int64[np.ndarray, "..."], number: Int64[np.ndarray, "..."]) -> Int64[np.ndarray, "..."]:
        """Adds so many days that are none of a weekend."""
        weeks, weekday = np.divmod(self._count_days(anchor) + number * self.count, 5)
        return (7 * weeks + weekday - 3) * DAY + anchor % DAY

    def number(self, anchor: Int64[np.ndarray, "..."], time: Int64[np.ndarray, "..."]) -> Int64[np.ndarray, "..."]:
        """Counts the days that are none of a weekend; a time of a weekend has the number of the Friday before."""
        return (self._count_days(time - anchor % DAY) - self._count_days(anchor)) // self.count

    def _count_days(self, time: np.ndarray) -> np.ndarray:
        """Numbers the days from Monday to Friday, from a Monday on."""
        weeks, weekday = np.divmod(time // DAY + 3, 7)  # 1970 began on a Thursday
        return 5 * weeks + np.minimum(weekday, 4)

    def alias(self, anchor: int) -> str:  # noqa: ARG002 - any day of the week may be the first
        """Gives `B`."""
        return _counted(self.count, "B")


@dataclass(frozen=True)
class Months(Step):
    """A number of months: the day is the anchor's, or the month's last where it has none such or `end` is set."""

    count: int
    end: bool = False

    def time(self, anchor: Int64[np.ndarray, "..."], number: Int64[np.ndarray, "..."]) -> Int64[np.ndarray, "..."]:
        """Goes so many months on, and there to the day."""
        month = _months(anchor)
        day = np.where(self.end, 30, (_days(anchor) - month.astype("M8[D]")).astype(np.int64))
        month = month + number * self.count
        begin = month.astype("M8[D]").astype(np.int64)
        last = (month + 1).astype("M8[D]").astype(np.int64) - 1
        return np.minimum(begin + day, last) * DAY + anchor % DAY

    def number(self, anchor: Int64[np.ndarray, "..."], time: Int64[np.ndarray, "..."]) -> Int64[np.ndarray, "..."]:
        """Counts the months, but not the last where its day has not come."""
        number = (_months(time) - _months(anchor)).astype(np.int64) // self.count
        return number - (self.time(anchor, number) > time)

    def alias(self, anchor: int) -> str:
        """Gives `MS`, `QS-JAN`, `YS-JAN`, or `ME`, `QE-DEC`, `YE-DEC`: the day of the month is said by no name."""
        month = int(_months(np.array(anchor)).astype(np.int64)) % 12
        which = "E" if self.end else "S"
        if self.count % 12 == 0:
            return _counted(self.count // 12, f"Y{which}-{_MONTHS[month]}")
        if self.count % 3 == 0:
            return _counted(self.count // 3, f"Q{which}-{_MONTHS[month % 3 + 9 * self.end]}")
        return _counted(self.count, f"M{which}")


def parse_frequency(frequency: str) -> Step:
    """Gives the step that a pandas offset alias names; what it says of weekday and month is the anchor's affair.

    Raises:
        ValueError: If it names none, or one that no grid of times has here.

    >>> parse_frequency("30min"), parse_frequency("W-SAT"), parse_frequency("QE-MAR")
    (ClockStep(microseconds=1800000000), Days(count=7), Months(count=3, end=True))
    """
    try:
        offset = to_offset(frequency)
    except ValueError:
        offset = None
    if offset is not None and offset.n > 0:
        for kind, days in ((pd.offsets.Day, 1), (pd.offsets.Week, 7)):
            if isinstance(offset, kind):
                return Days(offset.n * days)
        if isinstance(offset, pd.offsets.Tick) and offset.nanos % 1000 == 0:
            microseconds = offset.nanos // 1000
            return Days(microseconds // DAY) if microseconds % DAY == 0 else ClockStep(microseconds)
        if type(offset) is pd.offsets.BusinessDay:
            return BusinessDays(offset.n)
        for unit, months in (("Month", 1), ("Quarter", 3), ("Year", 12)):
            for name, end in (("Begin", False), ("End", True)):
                if isinstance(offset, getattr(pd.offsets, unit + name)):
                    return Months(offset.n * months, end)
    known = "15min, h, D, B, W, MS, ME, QS, YS and multiples of them, as 2h"
    raise ValueError(f"frequency={frequency} is no step of time that is known: there are {known}")


def _counted(count: int, unit: str) -> str:
    return unit if count == 1 else f"{count}{unit}"


def _days(time: np.ndarray) -> np.ndarray:
    return np.asarray(time // DAY).astype("M8[D]")


def _months(time: np.ndarray) -> np.ndarray:
    return _days(time).astype("M8[M]")

"""Which step of time the rows of series keep."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Int64

from datamodules.series.frequency import DAY, BusinessDays, ClockStep, Days, Months, Step
from datamodules.series.rows import within_series

_MOST = 0.9  # the part of the times that must keep a rule of the calendar
_MIN_MONTH = 28  # days


@dataclass(frozen=True)
class FoundStep:
    """The step of time that most rows keep.

    Args:
        step: The step.
        part: The part of all differences of time that are one step.
        mixed: Two series that keep different steps, and these; None if all keep one.
    """

    step: Step
    part: float
    mixed: tuple[tuple[int, Step], tuple[int, Step]] | None = None


def find_step(times: Int64[np.ndarray, " rows"], starts: Int64[np.ndarray, " series_and_end"]) -> FoundStep | None:
    """Finds the most frequent difference of time within series, as a step of the calendar where it is one.

    Args:
        times: Microseconds since 1970, ascending in each series.
        starts: Rows of series i are `starts[i] : starts[i + 1]`.

    Returns:
        The step; None where no series has two times.
    """
    found = _most_frequent(times, starts, _fixed)
    if found is None or not isinstance(found.step, Days):
        return found
    if found.step.count >= _MIN_MONTH:
        return _find_months(times, starts) or found
    if found.step.count == 1 and _skips_weekends(times, starts):
        weeks, weekdays = np.divmod(times // DAY + 3, 7)  # day 0 is a Thursday
        return _most_frequent(5 * weeks + weekdays, starts, BusinessDays)
    return found


def _find_months(times: Int64[np.ndarray, " rows"], starts: Int64[np.ndarray, " series_and_end"]) -> FoundStep | None:
    """A number of months, if most times have the day of the month that their series' first has, or are month ends."""
    days = (times // DAY).astype("M8[D]")
    months = days.astype("M8[M]")
    of_month = (days - months.astype("M8[D]")).astype(np.int64)
    same = (of_month == np.repeat(of_month[starts[:-1]], np.diff(starts))).mean()
    ends = ((days + 1).astype("M8[M]") != months).mean()
    if max(ends, same) < _MOST:
        return None
    return _most_frequent(months.astype(np.int64), starts, partial(Months, end=bool(ends >= same)))


def _skips_weekends(times: Int64[np.ndarray, " rows"], starts: Int64[np.ndarray, " series_and_end"]) -> bool:
    weekend = (times // DAY + 3) % 7 >= 5
    return not weekend.any() and bool((np.diff(times)[within_series(starts)] == 3 * DAY).any())


def _most_frequent(
    times: Int64[np.ndarray, " rows"], starts: Int64[np.ndarray, " series_and_end"], step: Callable[[int], Step]
) -> FoundStep | None:
    """The step of the most frequent positive difference within series, its part, and series whose own is another."""
    inner = within_series(starts)
    differences = np.diff(times)[inner]
    if len(differences) and differences[0] > 0 and (differences == differences[0]).all():
        return FoundStep(step(int(differences[0])), 1.0)  # all is well: no need to count
    series = np.repeat(np.arange(len(starts) - 1), np.diff(starts))[1:][inner][differences > 0]
    differences = differences[differences > 0]
    if not len(differences):
        return None
    kinds, codes, counts = np.unique(differences, return_inverse=True, return_counts=True)
    common = np.argmax(counts)
    found = FoundStep(step(int(kinds[common])), float(counts[common] / len(differences)))
    pairs, own = np.unique(series * len(kinds) + codes, return_counts=True)
    owner, code = np.divmod(pairs, len(kinds))
    order = np.lexsort((code, -own, owner))
    order = order[np.flatnonzero(np.diff(owner[order], prepend=-1))]  # of each series its most frequent difference
    owner, code, own, total = owner[order], code[order], own[order], np.bincount(series)[owner[order]]
    # In a short series a multiple of the step may be a gap; one that comes three times and mostly is a step.
    sure = (own >= 3) & (2 * own >= total) | (kinds[code] % kinds[common] != 0)
    usual, odd = np.flatnonzero(code == common), np.flatnonzero((code != common) & sure)
    if not len(usual) or not len(odd):
        return found
    one, other = sorted((usual[0], odd[0]))
    steps = [(int(owner[place]), step(int(kinds[code[place]]))) for place in (one, other)]
    return replace(found, mixed=(steps[0], steps[1]))


def _fixed(microseconds: int) -> Step:
    return ClockStep(microseconds) if microseconds % DAY else Days(microseconds // DAY)

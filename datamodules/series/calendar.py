"""What the calendar and the clock say of a time, and how many steps a season has."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float32

from datamodules.series.frequency import parse_frequency
from datamodules.series.series import SeriesSet

_MINUTE, _HOUR, _DAY, _WEEK, _MONTH, _YEAR = 60.0, 3600.0, 86_400.0, 604_800.0, 28 * 86_400.0, 365.25 * 86_400.0
_FEATURES: dict[str, tuple[Callable[[pd.DatetimeIndex], pd.Index], int, int, float, float]] = {
    # name: (what it is, its least and greatest value, the least and greatest step that it is told for, in seconds)
    "second_of_minute": (lambda times: times.second, 0, 59, 0, _MINUTE),
    "minute_of_hour": (lambda times: times.minute, 0, 59, 0, _HOUR),
    "hour_of_day": (lambda times: times.hour, 0, 23, 0, _DAY),
    "day_of_week": (lambda times: times.day_of_week, 0, 6, 0, _WEEK),
    "day_of_month": (lambda times: times.day, 1, 31, 0, _MONTH),
    "day_of_year": (lambda times: times.day_of_year, 1, 366, 0, _MONTH),
    "month_of_year": (lambda times: times.month, 1, 12, _MONTH, 0.99 * _YEAR),
}
_BLOCK = 2**18  # times made at once
_ANCHOR = 978_307_200_000_000  # 2001-01-01, a Monday, in microseconds since 1970


def step_seconds(frequency: str) -> float:
    """Length of a step in seconds; the mean where months or weekends make steps differ.

    >>> step_seconds("30min"), step_seconds("B") / 86400
    (1800.0, 1.4)
    """
    steps = 20  # whole weeks of business days, whole years of quarters
    first, last = parse_frequency(frequency).time(np.array(_ANCHOR), np.array([0, steps]))
    return float(last - first) / steps / 1e6


def find_season(frequency: str) -> int:
    """Number of steps in the season that is likely: a day, a week of days, a year of weeks, months or quarters.

    Of steps less than a minute it is an hour; 1 where a season is no whole number of steps.

    >>> [find_season(frequency) for frequency in ("15min", "30min", "h", "D", "B", "W-SAT", "MS", "QS", "YS")]
    [96, 48, 24, 7, 5, 52, 12, 4, 1]
    """
    step = step_seconds(frequency)
    season = next((season for below, season in ((_MINUTE, _HOUR), (_DAY, _DAY), (_WEEK, _WEEK)) if step < below), _YEAR)
    exact = season / step
    return round(exact) if exact >= 1 and abs(exact - round(exact)) < 0.01 * exact else 1


def calendar_names(frequency: str) -> list[str]:
    """Names of the features that differ between the steps of a frequency.

    >>> calendar_names("h")
    ['hour_of_day', 'day_of_week', 'day_of_month', 'day_of_year']
    """
    step = step_seconds(frequency)
    return [name for name, (*_, least, below) in _FEATURES.items() if least <= step < below]


def calendar_features(times: pd.DatetimeIndex, names: Sequence[str]) -> Float32[np.ndarray, "times features"]:
    """Features in [-0.5, 0.5], of the time that a clock on the wall shows where there is a timezone.

    >>> calendar_features(pd.DatetimeIndex(["2024-01-01 23:00"]), ["hour_of_day", "day_of_week"]).tolist()
    [[0.5, -0.5]]
    """
    features = np.empty((len(times), len(names)), np.float32)
    for column, name in enumerate(names):
        read, least, greatest, *_ = _FEATURES[name]
        features[:, column] = (read(times).to_numpy() - least) / (greatest - least) - 0.5
    return features


def calendar_of(series: SeriesSet, names: Sequence[str]) -> Float32[np.ndarray, "rows features"]:
    """Features of every row; series that begin at one time share them, so that thousands take no longer than one."""
    features = np.empty((int(series.starts[-1]), len(names)), np.float32)
    lengths = np.diff(series.starts)
    _, group = np.unique(series.first.asi8, return_inverse=True)
    for members in np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1]):
        longest = int(members[lengths[members].argmax()])
        whole = features[series.starts[longest] : series.starts[longest + 1]]
        for row in range(0, len(whole), _BLOCK):
            count = min(_BLOCK, len(whole) - row)
            whole[row : row + count] = calendar_features(series.times(longest, row, count), names)
        for member in members:
            features[series.starts[member] : series.starts[member + 1]] = whole[: lengths[member]]
    return features

import numpy as np
import pandas as pd
import pytest

from datamodules.series import calendar
from datamodules.series.calendar import calendar_features, calendar_names, calendar_of, find_season
from tests.datamodules.series.sets import series_set


@pytest.mark.parametrize(
    ("frequency", "names"),
    [
        ("s", ["second_of_minute", "minute_of_hour", "hour_of_day", "day_of_week", "day_of_month", "day_of_year"]),
        ("30min", ["minute_of_hour", "hour_of_day", "day_of_week", "day_of_month", "day_of_year"]),
        ("h", ["hour_of_day", "day_of_week", "day_of_month", "day_of_year"]),
        ("D", ["day_of_week", "day_of_month", "day_of_year"]),
        ("B", ["day_of_week", "day_of_month", "day_of_year"]),
        ("W-SAT", ["day_of_month", "day_of_year"]),
        ("MS", ["month_of_year"]),
        ("QE-MAR", ["month_of_year"]),
        ("YS", []),
    ],
)
def test_features_by_frequency(frequency, names):
    assert calendar_names(frequency) == names


@pytest.mark.parametrize(
    ("frequency", "season"),
    [("s", 3600), ("5min", 288), ("2h", 12), ("5h", 1), ("2D", 1), ("2W-SUN", 26), ("ME", 12), ("QE", 4), ("YE", 1)],
)
def test_seasons(frequency, season):
    assert find_season(frequency) == season


def test_values_by_hand():
    times = pd.DatetimeIndex(["2023-01-01 00:00:00", "2024-12-31 23:59:59"])  # a Sunday, and a Tuesday in a leap year
    features = calendar_features(times, list(calendar._FEATURES))
    expected = {
        "second_of_minute": [-0.5, 0.5],
        "minute_of_hour": [-0.5, 0.5],
        "hour_of_day": [-0.5, 0.5],
        "day_of_week": [0.5, 1 / 6 - 0.5],
        "day_of_month": [-0.5, 0.5],
        "day_of_year": [-0.5, 0.5],
        "month_of_year": [-0.5, 0.5],
    }
    np.testing.assert_allclose(features, np.transpose([expected[name] for name in calendar._FEATURES]), atol=1e-7)


@pytest.mark.parametrize(("day", "hours"), [("2024-03-31", [0, 1, 3, 4]), ("2024-10-27", [0, 1, 2, 2, 3])])
def test_hours_are_the_walls_when_clocks_change(day, hours):
    series = series_set(np.zeros(len(hours)), first=day, timezone="Europe/Berlin")
    features = calendar_of(series, ["hour_of_day"])[:, 0]
    assert ((features + 0.5) * 23).round().tolist() == hours


def test_series_have_their_own_times(monkeypatch):
    firsts = ["2024-02-28", "2023-02-28", "2024-02-28", "2024-02-28"]
    tables = [np.zeros(length) for length in (40, 50, 9, 60)]
    series = series_set(*tables, first=firsts)
    names = calendar_names("h")
    whole = calendar_of(series, names)
    for number, (first, table) in enumerate(zip(firsts, tables, strict=True)):
        times = pd.date_range(first, periods=len(table), freq="h")
        own = whole[series.starts[number] : series.starts[number + 1]]
        np.testing.assert_array_equal(own, calendar_features(times, names))
    monkeypatch.setattr(calendar, "_BLOCK", 7)
    np.testing.assert_array_equal(calendar_of(series, names), whole)

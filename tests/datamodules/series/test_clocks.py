"""Clocks that change: London and New York, in both directions."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.series.clocks import to_utc, to_wall
from datamodules.series.timestamps import NO_TIME
from tests.datamodules.series.tables import all_times, mistake, read_text

CHANGES = [
    ("Europe/London", "2024-03-30 22:00", "h"),
    ("Europe/London", "2024-10-26 22:00", "30min"),
    ("America/New_York", "2024-03-09 22:00", "15min"),
    ("America/New_York", "2024-11-02 22:00", "h"),
]


def local(zone: str, begin: str, frequency: str, count: int = 40) -> tuple[pd.DatetimeIndex, list[str]]:
    times = pd.date_range(begin, periods=count, freq=frequency, tz=zone)
    return times, times.strftime("%Y-%m-%d %H:%M").tolist()


def table(texts) -> str:
    return "time,load\n" + "".join(f"{text},{number}\n" for number, text in enumerate(texts))


@pytest.mark.parametrize(("zone", "begin", "frequency"), CHANGES)
def test_local_times_are_a_regular_grid(tmp_path, zone, begin, frequency):
    times, texts = local(zone, begin, frequency)
    series = read_text(tmp_path, table(texts), timezone=zone)
    assert (all_times(series) == times).all()
    assert series.first.tz is not None
    assert series.values[:, 0].tolist() == list(range(40))
    assert (series.times(0, 40, 5) == pd.date_range(times[0], periods=45, freq=frequency)[40:]).all()


@pytest.mark.parametrize(("zone", "begin", "frequency"), CHANGES)
def test_newest_first_and_several_series(tmp_path, zone, begin, frequency):
    times, texts = local(zone, begin, frequency)
    rows = [(name, text, number) for number, text in enumerate(texts) for name in ("a", "b")]
    text = "id,time,load\n" + "".join(f"{name},{time},{number}\n" for name, time, number in reversed(rows))
    series = read_text(tmp_path, text, "mask", timezone=zone)
    assert series.names == ["b", "a"]
    for number in (0, 1):
        assert (all_times(series, number) == times).all()
    assert series.values[:, 0].tolist() == [*range(40), *range(40)]


@pytest.mark.parametrize(("zone", "begin", "frequency"), CHANGES)
def test_without_a_timezone_the_change_is_named(tmp_path, zone, begin, frequency):
    _, texts = local(zone, begin, frequency)
    assert "name the place by --data.layout.timezone" in mistake(tmp_path, table(texts))


def test_an_hour_that_clocks_skip(tmp_path):
    texts = pd.date_range("2024-03-31 00:00", periods=5, freq="h").strftime("%Y-%m-%d %H:%M")
    line = mistake(tmp_path, table(texts), timezone="Europe/London")
    assert line.startswith("table.csv: line 3 (2024-03-31 01:00:00) is a time that clocks in Europe/London skipped")
    assert read_text(tmp_path, table(texts)).frequency == "h"


@pytest.mark.parametrize("zone", ["Europe/London", "America/New_York"])
def test_offsets_from_utc_and_a_timezone(tmp_path, zone):
    times = pd.date_range("2024-02-01", periods=400, freq="D", tz=zone)
    text = table(time.isoformat() for time in times)
    series = read_text(tmp_path, text, timezone=zone)
    assert series.frequency == "D"
    assert (all_times(series) == times).all()
    assert "--data.layout.timezone" in mistake(tmp_path, text)


def test_offsets_are_shown_in_utc(tmp_path):
    times = pd.date_range("2024-10-26 22:00", periods=30, freq="h", tz="Europe/London")
    series = read_text(tmp_path, table(time.isoformat() for time in times))
    assert str(series.first.tz) == "UTC"
    assert (all_times(series) == times).all()


def test_days_where_midnight_is_skipped(tmp_path):
    """Clocks in Cairo go forward at midnight."""
    texts = pd.date_range("2024-04-20", periods=12, freq="D").strftime("%Y-%m-%d")
    times = all_times(read_text(tmp_path, table(texts), timezone="Africa/Cairo"))
    assert times.strftime("%d %H").tolist()[4:8] == ["24 00", "25 00", "26 01", "27 00"]


@given(
    zone=st.sampled_from(["Europe/London", "America/New_York", "Australia/Lord_Howe", "Asia/Tokyo"]),
    begin=st.datetimes(pd.Timestamp(1990, 1, 1), pd.Timestamp(2030, 1, 1)),
    backwards=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_wall_and_back(zone, begin, backwards):
    """Half-hourly for 300 days: whatever clocks do (on Lord Howe Island they change by half an hour)."""
    times = pd.date_range(pd.Timestamp(begin).floor("30min"), periods=14_400, freq="30min").as_unit("us").asi8
    times = times[::-1].copy() if backwards else times
    starts = np.array([0, 14_400])
    assert (to_utc(to_wall(times, zone), starts, zone) == times).all()


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("begin", ["2024-10-26 12:00", "2024-10-27 00:00", "2024-10-27 00:30", "2024-10-27 01:00"])
@pytest.mark.parametrize("count", [5, 10, 26])
def test_series_that_begin_or_end_in_a_repeated_hour(begin, count, backwards):
    """Two series one after another: the end of one says nothing of the other's beginning."""
    times = pd.date_range(begin, periods=count, freq="30min").as_unit("us").asi8  # of UTC; clocks change at 01:00
    times = np.concatenate([times[::-1] if backwards else times] * 2)
    starts = np.array([0, count, 2 * count])
    assert (to_utc(to_wall(times, "Europe/London"), starts, "Europe/London") == times).all()


def test_the_end_of_one_series_says_nothing_of_the_next():
    """Both lie in the repeated hour, one row after the other."""
    parts = [pd.date_range(begin, periods=9, freq="30min") for begin in ("2024-10-26 20:30", "2024-10-27 00:00")]
    times = np.concatenate([part.as_unit("us").asi8 for part in parts])
    starts = np.array([0, 9, 18])
    assert (to_utc(to_wall(times, "Europe/London"), starts, "Europe/London") == times).all()


def test_skipped_times_have_none():
    wall = pd.DatetimeIndex(["2024-03-10 01:30", "2024-03-10 02:30"]).as_unit("us").asi8
    assert (to_utc(wall, np.array([0, 2]), "America/New_York") == NO_TIME).tolist() == [False, True]

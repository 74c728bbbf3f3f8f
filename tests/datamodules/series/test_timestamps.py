from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.series import timestamps
from datamodules.series.timestamps import NO_TIME, TimeFormat, find_formats

FORMATS = [
    ("2024-01-31", "ISO8601", "2024-01-31"),
    ("2024-01-31T13:00", "ISO8601", "2024-01-31 13:00"),
    ("2024-1-31 5:00", "ISO8601", "2024-01-31 05:00"),
    ("2024-01-31 13:00:00.250", "ISO8601", "2024-01-31 13:00:00.25"),
    ("2024-01", "ISO8601", "2024-01-01"),
    ("2024-01-31 13:00+02:00", "ISO8601", "2024-01-31 11:00"),
    ("2024-01-31T13:00:00Z", "ISO8601", "2024-01-31 13:00"),
    ("2024-01-31 13:00:00 UTC", "ISO8601", "2024-01-31 13:00"),
    ("31.01.2024 13:00", "%d.%m.%Y %H:%M", "2024-01-31 13:00"),
    ("31/01/2024", "%d/%m/%Y", "2024-01-31"),
    ("1/31/2024 1:05 PM", "%m/%d/%Y %I:%M %p", "2024-01-31 13:05"),
    ("31/01/24", "%d/%m/%y", "2024-01-31"),
    ("31-Jan-2024", "%d-%b-%Y", "2024-01-31"),
    ("January 31, 2024", "%B %d, %Y", "2024-01-31"),
    ("Jan-2024", "%b-%Y", "2024-01-01"),
    ("20240131", "%Y%m%d", "2024-01-31"),
    ("202401", "%Y%m", "2024-01-01"),
    ("1824", "%Y", "1824-01-01"),
    ("1706706000", "s", "2024-01-31 13:00"),
    ("1706706000000", "ms", "2024-01-31 13:00"),
    ("1706706000123456", "us", "2024-01-31 13:00:00.123456"),
    ("1706706000123456789", "ns", "2024-01-31 13:00:00.123456"),
]


@pytest.mark.parametrize(("text", "name", "expected"), FORMATS)
def test_formats_are_found_and_read(text, name, expected):
    (found,) = find_formats(pa.array([None, text]))
    assert found.name == name
    assert found.has_offset == (name in ("s", "ms", "us", "ns") or text.endswith(("Z", "UTC", "+02:00")))
    column = pa.array([f" {text} ", None, "nonsense"])
    assert found.parse(column).tolist() == [pd.Timestamp(expected).as_unit("us")._value, NO_TIME, NO_TIME]
    assert find_formats(pa.array([text]), name) == [found]


@pytest.mark.parametrize("text", ["1.5", "12.05", "1,5", "-3", "7", "hello", "may", "A1", "", "0000", "99999999"])
def test_what_is_no_time(text):
    assert find_formats(pa.array([text])) == []


def test_day_and_month_may_be_swapped():
    assert [found.name for found in find_formats(pa.array(["03/04/2024"]))] == ["%d/%m/%Y", "%m/%d/%Y"]
    assert [found.name for found in find_formats(pa.array(["03/04/2024", "03/13/2024"]))] == ["%m/%d/%Y"]


def test_one_wrong_time_does_not_hide_the_others():
    (found,) = find_formats(pa.array(["oops", "2024-01-01", "2024-01-02"]))
    assert found.name == "ISO8601"


def test_times_with_and_without_offset_do_not_mix():
    column = pa.array(["2024-01-01 00:00", "2024-01-01 00:00+01:00"])
    assert (TimeFormat("ISO8601").parse(column) == NO_TIME).tolist() == [False, True]
    assert (TimeFormat("ISO8601", has_offset=True).parse(column) == NO_TIME).tolist() == [True, False]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Asia/Tokyo"])
def test_types_of_times(unit, zone):
    column = pa.array([datetime(2024, 1, 31), None], pa.timestamp(unit, zone))
    (found,) = find_formats(column)
    assert found.has_offset == (zone is not None)
    assert found.parse(column).tolist() == [pd.Timestamp("2024-01-31").as_unit("us")._value, NO_TIME]
    assert find_formats(pa.array([datetime(2024, 1, 31).date()])) == [TimeFormat(found.name)]


@given(st.lists(st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_any_iso_time_is_read(times):
    column = pa.array([time.isoformat(sep=" ") for time in times])
    (found,) = find_formats(column)
    assert (found.parse(column) == np.array(times, "M8[us]").astype(np.int64)).all()


def test_pandas_and_arrow_read_alike(monkeypatch):
    """Quick and slow ways give the same."""
    column = pa.array(["2024-02-29 00:00:00", "1969-12-31 23:59:59"])
    quick = TimeFormat("ISO8601").parse(column)
    slow = TimeFormat("ISO8601").parse(pa.array([*column.to_pylist(), "2024-2-29"]))
    assert (quick == slow[:2]).all()
    assert slow[2] == slow[0]
    assert timestamps.NO_TIME not in slow

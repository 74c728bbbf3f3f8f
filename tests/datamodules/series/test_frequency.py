import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.series.frequency import parse_frequency
from datamodules.series.inference import find_step
from datamodules.series.series import SeriesSet

ALIASES = ["15s", "30min", "h", "2h", "36h", "D", "2D", "W-SAT", "2W-MON", "B", "2B"]
ALIASES += ["MS", "ME", "2MS", "QS-JAN", "QE-DEC", "YS-JAN", "YE-DEC", "2YS-JAN"]
INFERRED = [alias for alias in ALIASES if alias != "2B"]  # which looks like days with gaps: it must be given


def set_from(first: pd.Timestamp, frequency: str) -> SeriesSet:
    empty = np.zeros((1, 0))
    return SeriesSet([""], [], [], empty, empty, np.array([0, 1]), pd.DatetimeIndex([first]), frequency)


def microseconds(times: pd.DatetimeIndex) -> np.ndarray:
    return times.as_unit("us").asi8


@pytest.mark.parametrize("zone", [None, "Europe/London", "America/New_York"])
@pytest.mark.parametrize("alias", ALIASES)
def test_times_are_those_of_pandas(alias, zone):
    """Across both changes of the clocks, and a leap day."""
    count = 9000 if alias in ("30min", "h") else 80
    if alias == "2B":
        pytest.skip("pandas' date_range has no multiples of business days from any start")
    expected = pd.date_range("2024-01-02 00:00", periods=count, freq=alias, tz=zone)
    assert (set_from(expected[0], alias).times(0, 3, count - 3) == expected[3:]).all()


@pytest.mark.parametrize("alias", ALIASES)
def test_numbers_turn_times_back(alias):
    first = pd.date_range("2023-11-01", periods=1, freq=alias)
    step, number = parse_frequency(alias), np.arange(-50, 100)
    anchor = microseconds(first)[0]
    times = step.time(anchor, number)
    assert (np.diff(times) > 0).all()
    assert (step.number(anchor, times) == number).all()
    assert (step.number(anchor, times + 1) == number).all()
    assert (step.number(anchor, times - 1) == number - 1).all()


@pytest.mark.parametrize("alias", INFERRED)
def test_a_step_is_found_in_its_times(alias):
    times = pd.date_range("2023-01-31", periods=30, freq=alias)
    found = find_step(microseconds(times), np.array([0, 30]))
    assert found is not None
    assert found.step == parse_frequency(alias)
    assert found.step.alias(int(microseconds(times)[0])) == times.freqstr
    assert (found.part, found.mixed) == (1.0, None)


@given(alias=st.sampled_from(INFERRED), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_a_step_is_found_where_a_tenth_is_missing(alias, seed):
    times = microseconds(pd.date_range("2019-03-31", periods=200, freq=alias))
    kept = np.sort(np.random.default_rng(seed).permutation(200)[:180])
    found = find_step(times[kept], np.array([0, 180]))
    assert found is not None
    assert found.step == parse_frequency(alias)
    assert 0.7 < found.part < 1


def test_the_same_day_of_each_month_is_a_step():
    times = pd.DatetimeIndex([pd.Timestamp(2023, month, 15, 9) for month in range(1, 13)])
    found = find_step(microseconds(times), np.array([0, 12]))
    assert found is not None
    assert found.step == parse_frequency("MS")
    assert (set_from(times[0], "MS").times(0, 0, 12) == times).all()


def test_month_ends_after_a_short_month():
    times = set_from(pd.Timestamp("2023-02-28"), "ME").times(0, 0, 13)
    assert (times == pd.date_range("2023-02-28", periods=13, freq="ME")).all()
    assert times[12] == pd.Timestamp("2024-02-29")


def test_no_step_in_single_rows():
    assert find_step(np.array([5, 7]), np.array([0, 1, 2])) is None


def test_gaps_of_a_short_series_are_no_other_step():
    hours = [0, 1, 2, 3, 4, 5, 0, 2, 0, 1, 2, 3]
    found = find_step(np.array(hours) * 3600 * 10**6, np.array([0, 6, 8, 12]))
    assert found is not None
    assert found.mixed is None


def test_gaps_that_are_frequent_but_not_most_are_no_other_step():
    hours = [*range(20), *np.cumsum([0, 2, 1, 2, 3, 2, 1, 4, 3, 5])]  # of the second series 2 h are frequent
    found = find_step(np.array(hours) * 3600 * 10**6, np.array([0, 20, 30]))
    assert found is not None
    assert found.mixed is None


@pytest.mark.parametrize("name", ["fortnight", "", "-1h", "0D", "bh", "SMS", "10ns"])
def test_unknown_frequencies(name):
    with pytest.raises(ValueError, match=f"frequency={name} is no step of time that is known"):
        parse_frequency(name)

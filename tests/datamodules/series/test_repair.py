"""Times that are missing, irregular, twice there or not in order: one line, or what `fill` makes of them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.series import repair
from datamodules.series.frequency import parse_frequency
from datamodules.series.layout import TableLayout
from datamodules.series.reading import read_series
from tests.datamodules.series.tables import TIMES, all_times, column, mistake, read_text

NAN = float("nan")
GAP = column("", "1", "", "3", "9", times=[*TIMES[:3], *TIMES[4:]])
CHOICES = "choose --data.fill=ffill|interpolate|mask"
HOURS = [f"2024-01-01 {time}" for time in ("00:00", "01:00", "01:30", "02:00", "04:00", "05:00", "06:00")]
IRREGULAR = column("0", "1", "8", "2", "4", "5", "6", times=HOURS)

WRONG = [
    (
        column("1", "2", "4", "5", times=[TIMES[0], TIMES[1], TIMES[3], TIMES[4]]),
        "times are missing before line 4 (2024-01-04 00:00:00) and after line 3 (2024-01-02 00:00:00): the step is D: "
        + CHOICES,
    ),
    (
        column("1", "2", "3", "4", times=[TIMES[0], TIMES[2], TIMES[1], TIMES[3]]),
        "line 4 (2024-01-02 00:00:00) is earlier than line 3 (2024-01-03 00:00:00): times are not in order: " + CHOICES,
    ),
    (
        column("1", "2", "2", "3", "3", times=[TIMES[0], TIMES[1], TIMES[1], TIMES[2], TIMES[2]]),
        "line 4 (2024-01-02 00:00:00) has the same time as line 3 (2024-01-02 00:00:00); 1 more such rows: "
        f"{CHOICES}; or, if the table holds several series, name the column that tells them apart",
    ),
    (
        IRREGULAR,
        "line 4 (2024-01-01 01:30:00) is irregular: the step of time from line 2 (2024-01-01 00:00:00) on is h: "
        + CHOICES,
    ),
    (
        column(*"123456", times=[f"2024-01-01 00:0{minute}" for minute in "012568"]),
        "times are missing before line 5 (2024-01-01 00:05:00) and after line 4 (2024-01-01 00:02:00): the step is min"
        "; 1 more such rows: choose",
    ),
    (
        column(*"12345", times=[f"2024-01-01 00:{minute}" for minute in ("00", "03", "04", "11", "13")]),
        "times are irregular: the most frequent step, min, is 25% of them; name the step by --data.layout.frequency",
    ),
]


@pytest.mark.parametrize(("text", "line"), WRONG)
def test_wrong_times_get_one_line(tmp_path, text, line):
    assert mistake(tmp_path, text).startswith(f"table.csv: {line}")


def test_the_line_counts_blank_lines_and_names_the_series(tmp_path):
    text = "id,time,load\n\n" + "".join(f"a,{time},1\n" for time in TIMES)
    text += "\n" + "".join(f"b,{time},1\n" for time in TIMES if time != TIMES[2])
    line = mistake(tmp_path, text)
    assert "before line 12 (2024-01-04 00:00:00) of series 'b' and after line 11 (2024-01-02 00:00:00)" in line


def test_mixed_frequencies_name_two_series(tmp_path):
    hours = "".join(f"b,2024-01-01 0{hour}:00,1\n" for hour in range(6))
    days = "".join(f"a,{time} 00:00,1\n" for time in TIMES)
    text = f"id,time,load\n{days}{hours}"
    assert mistake(tmp_path, text, "ffill").startswith(
        "table.csv: mixed frequencies: line 2 (2024-01-01 00:00:00) begins series 'a' with the step D, but line 8 "
        "(2024-01-01 00:00:00) begins series 'b' with the step h: put each into a file of its own, or choose one by "
        "--data.layout.frequency and --data.fill=ffill|interpolate|mask"
    )
    series = read_text(tmp_path, text, "mask", frequency="h")
    assert np.diff(series.starts).tolist() == [121, 6]
    assert series.frequency == "h"


@pytest.mark.parametrize(
    ("fill", "expected"),
    [
        ("mask", [NAN, 1, NAN, NAN, 3, 9]),
        ("ffill", [NAN, 1, 1, 1, 3, 9]),
        ("interpolate", [NAN, 1, 1 + 2 / 3, 1 + 4 / 3, 3, 9]),
    ],
)
def test_gaps_and_empty_cells(tmp_path, fill, expected):
    series = read_text(tmp_path, GAP, fill)
    np.testing.assert_allclose(series.values[:, 0], expected)
    assert all_times(series).strftime("%Y-%m-%d").tolist() == TIMES


@pytest.mark.parametrize(
    ("fill", "expected"),
    [("mask", [0, 1, 2, NAN, 4, 5, 6]), ("ffill", [0, 1, 2, 2, 4, 5, 6]), ("interpolate", [0, 1, 2, 3, 4, 5, 6])],
)
@pytest.mark.filterwarnings("ignore:.*leaves out 1 of 7 rows, whose times are irregular; the first is line 4")
def test_irregular_times(tmp_path, fill, expected):
    np.testing.assert_allclose(read_text(tmp_path, IRREGULAR, fill).values[:, 0], expected)


def test_left_out_rows_are_counted(tmp_path):
    with pytest.warns(UserWarning, match="leaves out 1 of 7 rows, whose times are irregular; the first is line 4"):
        read_text(tmp_path, IRREGULAR, "mask")


def test_a_first_time_that_is_irregular_moves_no_grid(tmp_path):
    text = column(*"123456", times=["2024-01-01 00:10", *(f"2024-01-01 0{hour}:00" for hour in range(1, 6))])
    series = read_text(tmp_path, text, "ffill")
    assert str(series.first[0]) == "2024-01-01 01:00:00"
    assert series.values[:, 0].tolist() == [2, 3, 4, 5, 6]


def test_irregular_ends_of_series_stay_their_own(tmp_path):
    """The last row of `a` lies beyond its grid, the first of `b` before."""
    times = {"a": ["00:00", "01:00", "02:00", "03:00", "03:50"], "b": ["00:20", "01:00", "02:00", "03:00", "04:00"]}
    rows = [f"{name},2024-01-01 {time},{name == 'b':d}{time[1]}" for name in times for time in times[name]]
    rows[6] = rows[6][:-2]  # so that the first row of `b` tells its first value
    series = read_text(tmp_path, "\n".join(["id,time,load", *rows]) + "\n", "ffill")
    assert series.values[:, 0].tolist() == [0, 1, 2, 3, 10, 12, 13, 14]


def test_jitter_is_brought_to_a_given_frequency(tmp_path):
    minutes = [f"2024-01-01 00:{minute}" for minute in ("01", "05", "09", "17", "22")]
    series = read_text(tmp_path, column(*"15986", times=minutes), "interpolate", frequency="5min")
    assert all_times(series).strftime("%H:%M").tolist() == ["00:05", "00:10", "00:15", "00:20"]
    np.testing.assert_allclose(series.values[:, 0], [5, 9 - 1 / 8, 9 - 6 / 8, 6 + 2 * 2 / 5])


def test_unsorted_and_equal_rows(tmp_path):
    text = column(*"313221", times=[TIMES[place] for place in (2, 0, 2, 1, 1, 0)])
    assert read_text(tmp_path, text, "mask").values[:, 0].tolist() == [1, 2, 3]


def test_different_rows_of_one_time_are_never_chosen_from(tmp_path):
    text = column("1", "2", "5", "3", times=[TIMES[0], TIMES[1], TIMES[1], TIMES[2]])
    assert mistake(tmp_path, text, "ffill").startswith(
        "table.csv: line 3 (2024-01-02 00:00:00) and line 4 (2024-01-02 00:00:00) have one time and different values "
        "(1 such pairs): delete the wrong one"
    )


def test_interpolation_ends_with_what_is_known(tmp_path):
    text = "id,time,load\n" + "".join(f"{name},{time},{time[-1]}\n" for name in "ab" for time in TIMES)
    text = text.replace("a,2024-01-06,6", "a,2024-01-06,").replace("b,2024-01-01,1", "b,2024-01-01,")
    series = read_text(tmp_path, text, "interpolate")
    assert np.array_equal(series.values[:, 0], [1, 2, 3, 4, 5, NAN, NAN, 2, 3, 4, 5, 6], equal_nan=True)


def test_the_future_is_not_filled(tmp_path):
    """Rows at the end where only covariates are known are what is to be forecast."""
    rows = [("1", "10"), ("", "11"), ("3", ""), ("", "13"), ("", "14")]
    text = "time,load,tariff\n" + "".join(f"{time},{a},{b}\n" for time, (a, b) in zip(TIMES, rows, strict=False))
    series = read_text(tmp_path, text, "ffill", covariate_columns=["tariff"])
    assert np.array_equal(series.values[:, 0], [1, 1, 3, NAN, NAN], equal_nan=True)
    assert series.covariates[:, 0].tolist() == [10, 11, 11, 13, 14]


def test_a_wrong_year_is_no_gap(tmp_path):
    text = column("1", "2", "3", times=[TIMES[0], TIMES[1], "2204-01-03"])
    assert "line 3 (2024-01-02 00:00:00) and line 4 (2204-01-03 00:00:00) are so far apart" in mistake(
        tmp_path, text, "mask"
    )


def reference(times: pd.DatetimeIndex, values: np.ndarray, frequency: str, fill: str) -> pd.Series:
    known = pd.Series(values, times).dropna()
    grid = pd.date_range(times[0], times[-1], freq=frequency)
    union = known.reindex(known.index.union(grid))
    filled = union.ffill() if fill == "ffill" else union.interpolate("time", limit_area="inside")
    return (union if fill == "mask" else filled).reindex(grid)


@given(
    fill=st.sampled_from(["mask", "ffill", "interpolate"]),
    frequency=st.sampled_from(["h", "D", "MS", "B", "W-SAT"]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_random_gaps_are_filled_as_pandas_does(tmp_path_factory, fill, frequency, seed):
    """Series of several lengths, shuffled, with empty cells, in blocks of a few rows."""
    random, parts, expected = np.random.default_rng(seed), [], {}
    for name in "abc":
        grid = pd.date_range(f"20{random.integers(10, 24)}-01-01", periods=random.integers(9, 60), freq=frequency)
        kept = np.sort(random.permutation(len(grid))[: int(0.8 * len(grid))])
        values = np.where(random.random(len(kept)) < 0.2, NAN, random.normal(size=len(kept)))
        if fill == "ffill":
            values[-1] = 1.0  # what lies after the last known value is the future
        parts.append(pd.DataFrame({"id": name, "time": grid[kept], "load": values}))
        expected[name] = reference(grid[kept], values, frequency, fill)
    path = tmp_path_factory.mktemp("gaps") / "table.csv"
    pd.concat(parts).sample(frac=1, random_state=seed % 1000).to_csv(path, index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repair, "_BLOCK", 7)
        series = read_series(path, TableLayout(frequency=frequency), fill=fill)
    for number, name in enumerate(series.names):
        found = series.values[series.starts[number] : series.starts[number + 1], 0]
        tolerance = 0.2 if frequency in ("MS", "B") else 0  # a step there is no one length of time
        if fill != "interpolate" or not tolerance:
            np.testing.assert_allclose(found, expected[name].to_numpy(), rtol=1e-9)
        assert (all_times(series, number) == expected[name].index).all()
    assert series.frequency == parse_frequency(frequency).alias(int(series.first.as_unit("us").asi8[0]))

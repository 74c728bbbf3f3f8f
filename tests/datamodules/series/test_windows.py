import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.series import windows
from datamodules.series.scaling import Scaler
from datamodules.series.windows import Origins, SeasonalNaive, Windows, gather
from tests.datamodules.series.sets import noise, series_set

NOT_SCALED = Scaler(np.zeros(2), np.ones(2))


def float32(series):
    object.__setattr__(series, "values", series.values.astype(np.float32))
    object.__setattr__(series, "covariates", series.covariates.astype(np.float32))
    return series


def naive(season, num_series, num_channels=2):
    return SeasonalNaive(season, np.ones((num_series, num_channels), np.float32))


@given(
    bounds=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 20)), min_size=1, max_size=5),
    stride=st.integers(1, 4),
    share=st.floats(0, 1),
)
def test_origins_are_those_of_a_plain_loop(bounds, stride, share):
    first, last = np.array(bounds).T
    expected = [(series, row) for series, (a, b) in enumerate(bounds) for row in range(a, b + 1, stride)]
    left_out = np.flatnonzero(np.random.default_rng(0).random(len(expected)) < share)
    origins = Origins.between(first, last, stride=stride)
    assert len(origins) == len(expected)
    origins = Origins(origins.first, origins.counts, stride, left_out)
    kept = [each for number, each in enumerate(expected) if number not in left_out]
    assert len(origins) == len(kept)
    series, row = origins.locate(np.arange(len(kept)))
    assert list(zip(series.tolist(), row.tolist(), strict=True)) == kept


def plain_window(series, which, origin, context, horizon, season):
    """The window by a loop over its steps."""
    table = series.values[series.starts[which] : series.starts[which + 1]]

    def at(row):
        return table[row] if 0 <= row < len(table) else np.full(table.shape[1], np.nan)

    past = np.stack([at(row) for row in range(origin - context, origin)])
    future = np.stack([at(row) for row in range(origin, origin + horizon)])
    repeated = []
    for row in range(origin, origin + horizon):
        while row >= origin:
            row -= season
        repeated.append(at(row))
    return past, future, np.stack(repeated)


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(8, 30), min_size=1, max_size=3),
    context=st.integers(1, 12),
    horizon=st.integers(1, 8),
    season=st.integers(1, 12),
    seed=st.integers(0, 5),
)
def test_a_batch_is_that_of_a_plain_loop(lengths, context, horizon, season, seed):
    series = float32(series_set(*[noise(length, 2, missing=0.2, seed=seed) for length in lengths]))
    origins = Origins.between(np.zeros(len(lengths), int), np.array(lengths) - horizon)
    scaler = Scaler(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    data = Windows(
        series,
        origins,
        context_length=context,
        prediction_length=horizon,
        scaler=scaler,
        baseline=naive(season, len(lengths)),
        times=True,
    )
    numbers = np.random.default_rng(seed).permutation(len(data))[:7].tolist()
    batch = data.__getitems__(numbers)
    for number, which, origin in zip(numbers, *origins.locate(np.array(numbers)), strict=True):
        place = numbers.index(number)
        expected = plain_window(series, which, origin, context, horizon, season)
        for name, values in zip(("past", "future", "naive"), expected, strict=True):
            missing = np.isnan(values)
            np.testing.assert_array_equal(batch[f"{name}_mask"][place], missing)
            np.testing.assert_array_equal(batch[name][place], np.where(missing, 0, values))
        assert (batch["series"][place], batch["origin"][place]) == (which, origin)
        start = pd.Timestamp("2024-01-01") + pd.Timedelta(hours=int(origin))
        assert batch["future_times"][place].tolist() == list(pd.date_range(start, periods=horizon, freq="h"))
        assert batch["past_times"][place].tolist() == list(pd.date_range(end=start, periods=context + 1, freq="h"))[:-1]
    assert batch["mean"].tolist() == [[1, 2]] * len(numbers)
    assert batch["std"].tolist() == [[3, 4]] * len(numbers)
    assert all(batch[name].dtype == torch.float32 for name in ("past", "future", "naive", "naive_error", "mean", "std"))
    assert batch["past_mask"].dtype == torch.bool


def test_the_baseline_sees_nothing_from_the_origin_on():
    values = noise(40, 2)
    origins = Origins.between(np.array([0]), np.array([30]))
    lengths = {"context_length": 4, "prediction_length": 10, "scaler": NOT_SCALED, "baseline": naive(7, 1)}
    for origin in range(31):
        later = values.copy()
        later[origin:] = 1e9
        one, other = (Windows(float32(series_set(each)), origins, **lengths) for each in (values, later))
        for name in ("past", "past_mask", "naive", "naive_mask"):
            assert torch.equal(one.__getitems__([origin])[name], other.__getitems__([origin])[name])
        assert one.__getitems__([origin])["naive_mask"].all() == (origin == 0)


def test_whole_windows_and_those_before_the_first_row_are_gathered_alike():
    table, starts = noise(20, 3), np.array([0, 20])
    fast, _ = gather(table, starts, np.zeros(3, int), np.array([0, 5, 12]), 8)
    slow, missing = gather(table, starts, np.zeros(4, int), np.array([0, 5, 12, -3]), 8)
    np.testing.assert_array_equal(fast, slow[:3])
    assert missing[3, :, 0].tolist() == [True] * 3 + [False] * 5
    assert not missing[:3].any()
    assert gather(table, starts, np.zeros(0, int), np.zeros(0, int), 30)[0].shape == (0, 30, 3)


def test_what_is_gathered_is_a_copy():
    series = float32(series_set(noise(20, 2)))
    before = series.values.copy()
    data = Windows(
        series,
        Origins.between(np.array([4]), np.array([18])),
        context_length=4,
        prediction_length=2,
        scaler=NOT_SCALED,
        baseline=naive(2, 1),
    )
    assert data.series.values is series.values
    for values in data.__getitems__([0, 1]).values():
        values.zero_()
    np.testing.assert_array_equal(series.values, before)


def test_covariates_reach_over_history_and_future_and_are_0_where_missing():
    known = np.arange(40.0).reshape(20, 2)
    known[5] = np.nan
    series = float32(series_set(noise(20, 1), covariates=[known]))
    data = Windows(
        series,
        Origins.between(np.array([2]), np.array([18])),
        context_length=4,
        prediction_length=2,
        scaler=Scaler(np.zeros(1), np.ones(1)),
    )
    batch = data.__getitems__([(0, 123), (2, 456)])  # numbers and seeds
    assert batch["covariates"][0, :, 0].tolist() == [0, 0, 0, 2, 4, 6]
    assert batch["covariates"][1, :, 1].tolist() == [1, 3, 5, 7, 9, 0]
    assert "naive" not in batch
    assert "past_times" not in batch


@pytest.mark.parametrize("block", [3, 2**18])
def test_futures_that_are_wholly_missing_are_left_out(block, monkeypatch):
    monkeypatch.setattr(windows, "_BLOCK", block)
    values = noise(30, 2)
    values[10:15] = np.nan
    values[20:24, 0] = np.nan
    series = series_set(values, values[:18])
    origins = Origins.between(np.array([2, 2]), np.array([26, 14]), stride=2)
    kept = origins.with_future(series, 4)
    which, origin = kept.locate(np.arange(len(kept)))
    expected = [(which, row) for which, last in ((0, 26), (1, 14)) for row in range(2, last + 1, 2) if row != 10]
    assert list(zip(which.tolist(), origin.tolist(), strict=True)) == expected
    assert len(kept) == len(origins) - 2


def test_where_nothing_is_missing_no_list_is_made():
    series = series_set(noise(30, 2))
    origins = Origins.between(np.array([2]), np.array([26]))
    assert origins.with_future(series, 4) is origins

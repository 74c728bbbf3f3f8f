import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.preprocessing import StandardScaler

from datamodules.series import scaling
from datamodules.series.scaling import Scaler, naive_errors, rows_of
from tests.datamodules.series.sets import noise

EVERY = np.ones(50, bool)


@pytest.fixture(params=[7, 2**18], autouse=True)
def _blocks(request, monkeypatch):
    monkeypatch.setattr(scaling, "_BLOCK", request.param)


def test_it_is_sklearns():
    values, chosen = noise(50, 3, missing=0.2), np.arange(50) % 3 > 0
    theirs = StandardScaler().fit(values[chosen])
    ours = Scaler.fit(values, chosen, "abc")
    np.testing.assert_allclose(ours.mean, theirs.mean_, rtol=1e-12)
    np.testing.assert_allclose(ours.std, theirs.scale_, rtol=1e-12)
    np.testing.assert_allclose(ours(values), theirs.transform(values), rtol=1e-6)
    assert ours(values).dtype == np.float32


def test_what_is_not_chosen_has_no_say():
    values, chosen = noise(50, 2), np.arange(50) < 30
    before = Scaler.fit(values, chosen, "ab")
    values[30:] *= 1e9
    after = Scaler.fit(values, chosen, "ab")
    assert (before.mean.tolist(), before.std.tolist()) == (after.mean.tolist(), after.std.tolist())


@given(value=st.floats(-1e30, 1e30))
def test_a_constant_keeps_its_value_and_deviation_1(value):
    values = np.full((50, 2), value)
    values[::3, 1] = np.nan
    scaler = Scaler.fit(values, EVERY, "ab")
    assert scaler.mean.tolist() == [value, value]
    assert scaler.std.tolist() == [1, 1]
    assert not scaler(values)[:, 0].any()


def test_all_missing_has_mean_0_and_deviation_1():
    scaler = Scaler.fit(np.full((50, 1), np.nan), EVERY, "a")
    assert (scaler.mean.tolist(), scaler.std.tolist()) == ([0], [1])


def test_a_large_offset_loses_no_digits():
    values = noise(50, 1)
    np.testing.assert_allclose(Scaler.fit(values + 1e9, EVERY, "a").std, values.std(), rtol=1e-6)


@pytest.mark.parametrize("factor", [1e39, 1e300, 1e-60])
def test_what_32_bits_cannot_hold_is_refused_by_name(factor):
    with pytest.raises(ValueError, match=r"column 'load' .* another unit") as caught:
        Scaler.fit(noise(50, 1) * factor, EVERY, ["load"])
    assert "\n" not in str(caught.value)


def test_rows_of_series():
    chosen = rows_of(np.array([0, 4, 4, 9]), np.array([1, 0, 0]), np.array([3, 0, 5]))
    assert chosen.tolist() == [False, True, True, False, True, True, True, True, True]


@given(
    table=arrays(float, st.tuples(st.integers(1, 30), st.just(2)), elements=st.sampled_from([0.5, 1, 2, 7, np.nan])),
    cut=st.integers(0, 30),
    train=st.floats(0, 1),
    season=st.integers(1, 9),
)
def test_the_naive_error_is_that_of_a_plain_loop(table, cut, train, season):
    starts = np.array([0, min(cut, len(table)), len(table)])
    ends = (np.diff(starts) * train).astype(int)
    found = [[[], []], [[], []]]
    for series in range(2):
        for row in range(season, ends[series]):
            for channel in range(2):
                error = abs(table[starts[series] + row, channel] - table[starts[series] + row - season, channel])
                if error == error:
                    found[series][channel].append(error)
    errors, pooled = naive_errors(table, starts, ends, season)
    expected = [[np.mean(one) if one else 0 for one in each] for each in found]
    np.testing.assert_allclose(errors, expected)
    both = [found[0][channel] + found[1][channel] for channel in range(2)]
    np.testing.assert_allclose(pooled, [np.mean(one) if one else 0 for one in both])

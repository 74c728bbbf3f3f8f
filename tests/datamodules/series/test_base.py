import copy

import numpy as np
import pytest
import torch
import yaml

from datamodules.series.scaling import Scaler
from tests.datamodules.series.sets import Given, noise, series_set, windows_of


def test_parts_and_windows():
    data = Given(series_set(noise(100, 2)))
    assert [len(data.windows(split)) for split in ("train", "val", "test")] == [60 - 6 - 3 + 1, 20 - 3 + 1, 20 - 3 + 1]
    firsts = [windows_of(loader)["origin"] for loader in (data.val_dataloader(), data.test_dataloader())]
    assert [(each[0], each[-1]) for each in firsts] == [(60, 77), (80, 97)]
    assert all((np.diff(each) == 1).all() for each in firsts)
    assert len(Given(series_set(noise(100, 2)), stride=10).windows("train")) == 6


def test_histories_reach_into_the_part_before():
    values = noise(100, 2)
    data = Given(series_set(values))
    batch = windows_of(data.test_dataloader())
    own_units = batch["past"] * batch["std"][:, None] + batch["mean"][:, None]
    np.testing.assert_allclose(own_units[0], values[74:80], rtol=1e-5)
    assert not batch["past_mask"].any()


def test_facts():
    values, known = noise(100, 2, missing=0.1), noise(100, 1, seed=1)
    data = Given(series_set(values, covariates=[known]), calendar=True)
    scaler = Scaler.fit(values, np.arange(100) < 60, "ab")
    facts = data.facts
    assert facts["channel_names"] == data.channel_names == ["c0", "c1"]
    assert facts["covariate_names"] == ["hour_of_day", "day_of_week", "day_of_month", "day_of_year", "k0"]
    assert (data.num_channels, data.num_covariates) == (2, 5)
    assert (data.context_length, data.prediction_length, data.frequency, data.season_length) == (6, 3, "h", 24)
    assert (data.mean, data.std) == (scaler.mean.tolist(), scaler.std.tolist())
    error = np.nanmean(np.abs(values[24:60] - values[:36]), axis=0)
    np.testing.assert_allclose(data.naive_error, error / scaler.std)
    assert set(facts) == set(data.fact_names)
    assert yaml.safe_load(yaml.safe_dump(facts)) == facts, "plain values, as checkpoints hold them"


def test_covariates_are_scaled_by_the_training_part():
    known = noise(100, 1, seed=1)
    data = Given(series_set(noise(100, 2), covariates=[known]), calendar=True)
    batch = windows_of(data.val_dataloader())
    train = known[:60]
    expected = (known[54:63, 0] - train.mean()) / train.std()
    np.testing.assert_allclose(batch["covariates"][0, :, 4], expected, rtol=1e-5)
    assert ((batch["covariates"][0, :, 0] + 0.5) * 23).round().tolist() == [6, 7, 8, 9, 10, 11, 12, 13, 14]
    assert batch["covariates"].shape[1:] == (9, 5)


def train_batches(data, epochs=2):
    loader = data.train_dataloader()
    batches = []
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        batches += list(loader)
    return batches


def test_the_future_changes_nothing_of_the_training():
    values, known = noise(2, 100, 2, missing=0.1), noise(2, 100, 1, seed=1)
    later_values, later_known = values.copy(), known.copy()
    later_values[:, 60:] *= 1e9
    later_known[:, 60:] *= 1e9
    ours, theirs = (
        Given(series_set(*each, covariates=list(more)), calendar=True, season_length=5)
        for each, more in ((values, known), (later_values, later_known))
    )
    assert ours.facts == theirs.facts
    pairs = list(zip(train_batches(ours), train_batches(theirs), strict=True))
    assert len(pairs) == 2 * (2 * 52 // 4)
    for one, other in pairs:
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert not np.allclose(windows_of(ours.val_dataloader())["future"], windows_of(theirs.val_dataloader())["future"])


@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_every_window_of_an_evaluation_comes_once(batch_size):
    series = series_set(noise(100, 1), noise(50, 1))
    expected = [(0, row) for row in range(80, 98)] + [(1, row) for row in range(40, 48)]
    batch = windows_of(Given(series, batch_size=batch_size).test_dataloader())
    assert list(zip(batch["series"].tolist(), batch["origin"].tolist(), strict=True)) == expected


def test_parts_share_the_series_and_copy_nothing():
    data = Given(series_set(noise(100, 2)))
    tables = [data.windows(split).series.values for split in ("train", "val", "test")]
    assert all(np.shares_memory(tables[0], table) for table in tables[1:])
    assert tables[0].nbytes == 100 * 2 * 4


def test_training_windows_without_a_future_are_left_out():
    values = noise(100, 2)
    values[20:30] = np.nan
    batches = train_batches(Given(series_set(values), batch_size=1), epochs=1)
    assert len(batches) == 52 - 8
    assert not any(batch["future_mask"].all() for batch in batches)


def test_constant_and_missing_channels_are_finite():
    values = np.stack([np.full(100, 7.5), np.full(100, np.nan), noise(100)], axis=1)
    data = Given(series_set(values))
    assert (data.mean[:2], data.std[:2], data.naive_error[:2]) == ([7.5, 0], [1, 1], [0, 0])
    batch = windows_of(data.test_dataloader())
    assert all(np.isfinite(values).all() for values in batch.values())
    assert batch["past_mask"].all(axis=(0, 1)).tolist() == [False, True, False]


def test_each_series_has_its_own_naive_error_or_that_of_all():
    small, large, constant = noise(100, 1), 100 * noise(100, 1), np.ones((100, 1))
    data = Given(series_set(small, large, constant), season_length=2)
    batch = windows_of(data.val_dataloader())
    errors = [np.abs(each[2:60] - each[:58]).mean() / data.std[0] for each in (small, large)]
    np.testing.assert_allclose(batch["naive_error"][[0, 18, 36], 0], [*errors, data.naive_error[0]], rtol=1e-5)
    np.testing.assert_allclose(data.naive_error[0], (errors[0] + errors[1]) / 3)


@pytest.mark.filterwarnings("ignore:.*left out of the training")
def test_ten_thousand_series():
    random = np.random.default_rng(0)
    lengths = random.integers(5, 60, 10_000)
    data = Given(series_set(*[np.full(length, number) for number, length in enumerate(lengths)]), batch_size=128)
    assert len(data.windows("train")) == np.maximum(lengths * 6 // 10 - 8, 0).sum()
    batch = next(iter(data.train_dataloader()))
    own = batch["past"] * batch["std"][:, None] + batch["mean"][:, None]
    torch.testing.assert_close(own, own[:, :1].expand_as(own), msg="a window lies in one series")
    batch = windows_of(data.test_dataloader())
    assert len(batch["origin"]) == np.maximum(lengths - lengths * 8 // 10 - 2, 0).sum()


def test_series_that_are_too_short_to_train_are_counted():
    with pytest.warns(UserWarning, match=r"Given: 2 of 3 series have fewer rows .* left out of the training"):
        data = Given(series_set(noise(100, 1), noise(14, 1), noise(1, 1))).windows("train")
    assert len(data) == 52


def test_the_series_in_their_own_units_are_not_kept():
    data = Given(series_set(noise(100, 1)))
    data.setup("fit")
    assert data._raw is None


def test_short_histories_of_an_evaluation_are_padded():
    batch = windows_of(Given(series_set(noise(100, 1), np.arange(8.0))).val_dataloader())
    short = windows_of(Given(series_set(noise(100, 1), np.arange(16.0))).test_dataloader())
    assert batch["series"].tolist() == [0] * 18
    assert short["past_mask"][short["series"] == 1].sum() == 0
    long = windows_of(Given(series_set(noise(100, 1), np.arange(16.0)), context_length=15).val_dataloader())
    assert long["past_mask"][long["series"] == 1, :, 0].tolist() == [[True] * 6 + [False] * 9]


def test_restored_facts_scale_other_series():
    trained = Given(series_set(noise(100, 2)))
    facts = copy.deepcopy(trained.facts)
    other = Given(series_set(1000 + noise(100, 2)), context_length=50)
    assert len(other.windows("val")) == 18
    other.restore_facts(facts)
    batch = windows_of(other.val_dataloader())
    assert batch["past"].shape[1:] == (6, 2)
    assert (batch["past"] > 100).all()
    with pytest.raises(ValueError, match="facts lack mean"):
        other.restore_facts({name: value for name, value in facts.items() if name != "mean"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"context_length": 0}, "context_length=0 must be at least 1"),
        ({"prediction_length": 0}, "prediction_length=0 must be at least 1"),
        ({"stride": -2}, "stride=-2 must be at least 1"),
        ({"season_length": 0}, "season_length=0 must be at least 1"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        (
            {"context_length": 58},
            "Given: context_length=58 and prediction_length=3 together exceed the 60 rows of the train part",
        ),
        ({"prediction_length": 21}, "Given: prediction_length=21 exceeds the 20 rows of the val part"),
        ({"batch_size": 60}, "batch_size=60 exceeds the 52 training samples"),
    ],
)
def test_bad_arguments_are_refused_in_a_line(arguments, message):
    def fit():
        data = Given(series_set(noise(100, 2)), **arguments)
        data.setup("fit")
        data.train_dataloader()

    with pytest.raises(ValueError, match=message) as caught:
        fit()
    assert "\n" not in str(caught.value)


def test_a_context_that_is_too_long_is_refused_before_a_model_is_built():
    with pytest.raises(ValueError, match="context_length=58"):
        _ = Given(series_set(noise(100, 2)), context_length=58).facts


@pytest.mark.parametrize(
    ("series", "message"),
    [
        (series_set(noise(100, 3)), r"has the channels \['c0', 'c1', 'c2'\], .* trained with \['c0', 'c1'\]"),
        (series_set(noise(100, 2), covariates=[noise(100, 1)]), r"has the covariates \['k0'\], .* trained with \[\]"),
        (series_set(noise(100, 2), frequency="D"), "has a row every D, .* trained on one every h"),
    ],
)
def test_series_of_another_kind_are_refused(series, message):
    data = Given(series)
    data.restore_facts(Given(series_set(noise(100, 2))).facts)
    with pytest.raises(ValueError, match=message):
        data.setup("test")


def test_the_weekday_of_weeks_may_differ():
    data = Given(series_set(noise(100, 2), frequency="W-SUN"))
    data.restore_facts(Given(series_set(noise(100, 2), frequency="W-SAT")).facts)
    data.setup("test")


def test_making_one_reads_nothing():
    data = Given(None)
    assert data.batch_size == 4

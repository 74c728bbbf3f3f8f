from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datamodules import ElectricityDemand, SeriesFile
from datamodules.series.calendar import calendar_features
from datamodules.series.layout import TableLayout
from tests.datamodules.series.sets import noise, windows_of
from tests.datamodules.series.test_file import SIZES, write_long, write_wide


def data_of(tmp_path, **more):
    return SeriesFile(file=write_wide(tmp_path / "train.csv", noise(100, 2)), **SIZES, **more)


def predict(data, *files):
    return list(data.predict_loader([Path(file) for file in files]))


def test_the_last_steps_are_what_evaluation_would_show(tmp_path):
    data = data_of(tmp_path, calendar=True)
    values = noise(30, 2, missing=0.2, seed=5)
    (batch,) = predict(data, write_wide(tmp_path / "new.csv", values))
    later = write_wide(tmp_path / "later.csv", np.concatenate([values, np.zeros((3, 2))]))
    expected = {name: each[-1:] for name, each in windows_of(data.backtest_loader(Path(later), stride=1)).items()}
    for name in ("past", "past_mask", "covariates", "mean", "std"):
        np.testing.assert_array_equal(batch[name], expected[name])
    assert batch["past_times"][0].tolist() == list(pd.date_range("2024-01-02", periods=6, freq="h"))
    assert batch["future_times"][0].tolist() == list(pd.date_range("2024-01-02 06:00", periods=3, freq="h"))
    assert (batch["index"].tolist(), batch["failed"], batch["names"]) == ([0], [], [""])
    assert batch["channel_names"] == ["c0", "c1"]


def test_short_series_are_padded_on_the_left(tmp_path):
    values = noise(2, 2, seed=5)
    data = data_of(tmp_path, calendar=True)
    (batch,) = predict(data, write_wide(tmp_path / "new.csv", values))
    assert batch["past_mask"][0, :, 0].tolist() == [True] * 4 + [False] * 2
    np.testing.assert_allclose(batch["past"][0, 4:], (values - data.mean) / data.std, rtol=1e-5)
    assert not batch["past"][0, :4].any()
    assert not batch["covariates"][0, :4].any()
    names = data.covariate_names
    times = pd.date_range("2024-01-01", periods=5, freq="h")
    np.testing.assert_array_equal(batch["covariates"][0, 4:], calendar_features(times, names))
    assert len(batch["past_times"][0]) == 6


def test_a_single_row_has_the_trainings_step(tmp_path):
    (batch,) = predict(data_of(tmp_path), write_wide(tmp_path / "new.csv", noise(1, 2)))
    assert batch["past_mask"][0, :, 0].tolist() == [True] * 5 + [False]
    assert batch["future_times"][0].tolist() == list(pd.date_range("2024-01-01 01:00", periods=3, freq="h"))


def test_a_file_that_cannot_be_read_fails_alone(tmp_path):
    data = data_of(tmp_path)
    good = write_wide(tmp_path / "good.csv", noise(30, 2))
    empty, lacks, daily = (tmp_path / f"{name}.csv" for name in ("empty", "lacks", "daily"))
    empty.write_text("")
    lacks.write_text("time,c0\n2024-01-01,1\n2024-01-02,2\n")
    write_wide(daily, noise(30, 2), step="D")
    batches = predict(data, empty, good, lacks, daily, tmp_path / "none.csv")
    failed = dict(entry for batch in batches for entry in batch["failed"])
    assert sorted(failed) == [0, 2, 3, 4]
    assert "'c1'" in failed[2]
    assert "a row every D, but the model was trained on one every h" in failed[3]
    assert all(str(tmp_path) in reason and "\n" not in reason for reason in failed.values())
    assert [batch["index"].tolist() for batch in batches] == [[], [1], [], [], []]
    assert batches[0]["past"].shape == (0, 6, 2)
    assert batches[0].keys() == batches[1].keys()


def test_columns_may_be_more_and_in_another_order(tmp_path):
    values = noise(30, 2)
    file = tmp_path / "new.csv"
    table = pd.read_csv(write_wide(file, values))
    table[["c1", "time", "c0"]].assign(note="x").to_csv(file, index=False)
    (batch,) = predict(data_of(tmp_path), file)
    own = batch["past"] * batch["std"][:, None] + batch["mean"][:, None]
    np.testing.assert_allclose(own[0], values[-6:], rtol=1e-5)


@pytest.mark.parametrize("workers", [0, 2])
def test_many_series_of_several_files(tmp_path, workers):
    train = write_long(tmp_path / "train.parquet", {"a": noise(100), "b": noise(90)})
    data = SeriesFile(file=train, num_workers=workers, **SIZES)
    files = [
        write_long(tmp_path / "one.parquet", {f"n{number}": np.full(20, number) for number in range(10)}),
        write_long(tmp_path / "two.parquet", {"m": np.full(20, 77)}),
    ]
    batches = predict(data, *files)
    assert sorted(len(batch["index"]) for batch in batches) == [1, 2, 4, 4]
    last = {
        name: float(past[-1, 0] * data.std[0] + data.mean[0])
        for batch in batches
        for name, past in zip(batch["names"], batch["past"], strict=True)
    }
    assert {name: round(value, 3) for name, value in last.items()} == {**{f"n{i}": i for i in range(10)}, "m": 77}


def test_covariates_after_the_last_value_are_the_futures(tmp_path):
    values, tariff = noise(33, 1), noise(33)
    values[30:] = np.nan
    train = write_wide(tmp_path / "train.csv", noise(100, 1), tariff=noise(100))
    data = SeriesFile(file=train, layout=TableLayout(covariate_columns=["tariff"]), **SIZES)
    (batch,) = predict(data, write_wide(tmp_path / "new.csv", values, tariff=tariff))
    scaled = (tariff[24:33] - data.facts["known_mean"][0]) / data.facts["known_std"][0]
    np.testing.assert_allclose(batch["covariates"][0, :, 0], scaled, rtol=1e-5)
    assert batch["future_times"][0][0] == pd.Timestamp("2024-01-02 06:00")
    assert not batch["past_mask"].any()
    (batch,) = predict(data, write_wide(tmp_path / "new.csv", values[:30], tariff=tariff[:30]))
    assert not batch["covariates"][0, 6:].any(), "what is not known is 0"


def test_from_the_facts_alone(tmp_path):
    trained = data_of(tmp_path)
    file = write_wide(tmp_path / "new.csv", noise(30, 2))
    (expected,) = predict(trained, file)
    data = SeriesFile(file=str(tmp_path / "gone.csv"))
    data.restore_facts(trained.facts)
    (batch,) = predict(data, file)
    np.testing.assert_array_equal(batch["past"], expected["past"])


def test_fill_that_is_given_goes_before_the_trainings(tmp_path):
    file = tmp_path / "new.csv"
    lines = (tmp_path / write_wide(file, noise(40, 2))).read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:38] + lines[39:]))
    trained = data_of(tmp_path)
    (batch,) = predict(trained, file)
    assert "--data.fill" in batch["failed"][0][1]
    data = SeriesFile(file="gone.csv", fill="mask")
    data.restore_facts(trained.facts)
    (batch,) = predict(data, file)
    assert batch["past_mask"][0, :, 0].tolist() == [False] * 3 + [True] + [False] * 2
    assert trained.layout["fill"] is None


def test_local_times_go_on_through_the_change_of_clocks(tmp_path):
    times = pd.date_range("2024-03-30 12:00", periods=10, freq="30min")
    file = tmp_path / "new.csv"
    pd.DataFrame({"when": times, "demand": noise(10)}).to_csv(file, index=False)
    (batch,) = predict(ElectricityDemand(), file)
    assert batch["future_times"][0].tolist() == list(pd.date_range("2024-03-30 17:00", periods=48, freq="30min"))
    assert batch["past_mask"].sum() == 336 - 10


def test_a_backtest_has_all_rolling_origins(tmp_path):
    data = data_of(tmp_path)
    values = noise(30, 2, seed=5)
    file = Path(write_wide(tmp_path / "new.csv", values))
    batch = windows_of(data.backtest_loader(file))
    assert batch["origin"].tolist() == list(range(6, 28, 3))
    for place, origin in enumerate(batch["origin"]):
        own = batch["future"][place] * data.std + data.mean
        np.testing.assert_allclose(own, values[origin : origin + 3], rtol=1e-5)
    assert windows_of(data.backtest_loader(file, stride=1))["origin"].tolist() == list(range(6, 28))
    np.testing.assert_allclose(batch["naive_error"], np.tile(np.float32(data.naive_error), (8, 1)))
    first = next(iter(data.backtest_loader(file)))
    assert first["future_times"][1].tolist() == list(pd.date_range("2024-01-01 09:00", periods=3, freq="h"))
    with pytest.raises(ValueError, match="stride=0 must be at least 1"):
        data.backtest_loader(file, stride=0)
    short = Path(write_wide(tmp_path / "short.csv", values[:8]))
    with pytest.raises(ValueError, match=r"short\.csv: has 8 rows, but a backtest needs 6 of history and 3 of future"):
        data.backtest_loader(short)


def test_files_are_found(tmp_path):
    data = data_of(tmp_path)
    write_long(tmp_path / "more.parquet", {"a": noise(10)})
    (tmp_path / "note.md").write_text("none of them")
    assert [file.name for file in data.predict_files(tmp_path)] == ["more.parquet", "train.csv"]
    assert data.predict_files(tmp_path / "note.md") == [tmp_path / "note.md"]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        data.predict_files(tmp_path / "nowhere")

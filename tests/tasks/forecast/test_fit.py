"""The real command line of forecasting, from a user's file to forecasts with intervals in its own units."""

import json

import numpy as np
import pandas as pd
import pytest

from datamodules import ElectricityDemand
from tasks.forecast.__main__ import main
from tests.tasks.conftest import FEW_BATCHES, SMALL_FORECAST, run_once

WHOLE = [arg for arg in SMALL_FORECAST if "limit_" not in arg]


def run(*args) -> int:
    return main([str(arg) for arg in args])


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Three weeks of two channels by the hour, some values missing, and a covariate that is known a day ahead."""
    hours = pd.date_range("2023-03-20", periods=21 * 24, freq="h")
    day = np.sin(2 * np.pi * np.arange(len(hours)) / 24)
    noise = np.random.default_rng(0).normal(size=(len(hours), 2))
    return pd.DataFrame(
        {
            "date": hours,
            "load": 500 + 50 * day + noise[:, 0],
            "price": 30 - 5 * day + noise[:, 1],
            "tariff": 1 + (day > 0),
        }
    ).assign(load=lambda frame: frame["load"].mask(frame.index % 17 == 3))


@pytest.fixture(scope="module")
def of_table(table, tmp_path_factory):
    """The folder of a small run on it."""
    folder = tmp_path_factory.mktemp("table")
    table.to_csv(folder / "mine.csv", index=False)
    columns = ["--data.layout.value_columns=[load,price]", "--data.layout.covariate_columns=[tariff]"]
    return small(folder / "mine.csv", folder / "runs", *columns, "--data.calendar=true")


def small(file, runs, *args):
    sizes = ["--data.context_length=48", "--data.prediction_length=24", "--model.tokens.patch_length=8"]
    return run_once("forecast", [*SMALL_FORECAST, "--data=SeriesFile", f"--data.file={file}", *sizes, *args], runs)


def test_fit_measures_beside_seasonal_naive(forecast_trained):
    metrics = json.loads((forecast_trained / "metrics.json").read_text())
    names = ["mse", "mae", "mae_original", "mase", "skill", "pinball", "coverage_80"]
    assert {f"test/{name}" for name in names} <= metrics.keys()
    expected = 1 - metrics["test/mae_original"] / metrics["test/naive_mae_original"]
    assert metrics["test/skill"] == pytest.approx(expected, abs=1e-5)
    assert len(pd.read_csv(forecast_trained / "per_step.csv")) == 48
    assert pd.read_csv(forecast_trained / "per_channel.csv")["channel"].tolist() == ["demand"]


def test_the_figures_are_the_same_for_any_batch_size(of_table, tmp_path):
    """Every window counts once: none is dropped, none repeated."""
    found = []
    for size in (1, 32, 10_000):
        args = ["test", "--ckpt_path", of_table / "checkpoints/best.ckpt", f"--data.batch_size={size}"]
        args += ["--trainer.limit_test_batches=1.0", "--trainer.logger=false", f"--runs={tmp_path / str(size)}"]
        assert run(*args) == 0
        (file,) = (tmp_path / str(size)).rglob("metrics.json")
        found.append(json.loads(file.read_text()))
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-4)


def test_explain_needs_the_checkpoint_and_a_file_alone(forecast_trained, tmp_path, monkeypatch):
    monkeypatch.setenv("ONECORE_DATA", str(tmp_path / "nothing"))
    demand = ElectricityDemand()._read()
    values = demand.values[:, 0]
    pd.DataFrame({"time": demand.times(0, 0, len(values)), "demand": values}).to_csv(tmp_path / "mine.csv", index=False)
    ckpt = forecast_trained / "checkpoints/best.ckpt"
    args = ["explain", "--ckpt_path", ckpt, "--input", tmp_path / "mine.csv", "--output", tmp_path / "out"]
    assert run(*args) == 0
    forecast = pd.read_csv(tmp_path / "out/mine.csv")
    assert forecast.columns.tolist() == ["timestamp", "channel", "forecast", *(f"q0.{level}" for level in range(1, 10))]
    times = pd.to_datetime(forecast["timestamp"])
    assert times.tolist() == demand.times(0, len(values), 48).tolist()
    levels = forecast[[f"q0.{level}" for level in range(1, 10)]].to_numpy()
    assert (np.diff(levels, axis=1) >= 0).all()
    assert values.min() / 2 < forecast["forecast"].min() < forecast["forecast"].max() < 2 * values.max()
    assert {path.suffix for path in (tmp_path / "out").rglob("*") if path.is_file()} == {".csv", ".png", ".npz"}


def test_backtest_rolls_over_a_users_file(forecast_trained, tmp_path):
    demand = ElectricityDemand()._read()
    frame = pd.DataFrame({"time": demand.times(0, 0, 1000), "demand": demand.values[:1000, 0]})
    frame.to_csv(tmp_path / "mine.csv", index=False)
    args = ["--ckpt_path", forecast_trained / "checkpoints/best.ckpt", "--input", tmp_path / "mine.csv"]
    assert run("backtest", *args, "--output", tmp_path / "out", "--trainer.limit_test_batches=1.0") == 0
    forecasts = pd.read_csv(tmp_path / "out/forecasts.csv")
    origins = (1000 - 672) // 48
    assert forecasts["origin"].nunique() == origins
    assert len(forecasts) == 48 * origins
    actual = frame.set_index(frame["time"].astype(str))["demand"]
    when = pd.to_datetime(forecasts["timestamp"]).astype(str)
    np.testing.assert_allclose(forecasts["actual"], actual[when], rtol=1e-5)
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    error = (forecasts["forecast"] - forecasts["actual"]).abs().mean()
    assert metrics["mae_original"] == pytest.approx(error, rel=1e-4)
    inside = (forecasts["q0.1"] <= forecasts["actual"]) & (forecasts["actual"] <= forecasts["q0.9"])
    assert metrics["coverage_80"] == pytest.approx(inside.mean(), abs=0.01)


def test_a_users_file_with_gaps_and_a_covariate_known_ahead(table, of_table, tmp_path):
    ahead = table.copy()
    ahead.loc[ahead.index[-24:], ["load", "price"]] = np.nan
    ahead.to_csv(tmp_path / "ahead.csv", index=False, sep=";", decimal=",")
    args = ["--ckpt_path", of_table / "checkpoints/best.ckpt", "--input", tmp_path / "ahead.csv"]
    assert run("predict", *args, "--output", tmp_path / "out") == 0
    forecast = pd.read_csv(tmp_path / "out/ahead.csv")
    assert forecast["channel"].unique().tolist() == ["load", "price"]
    assert pd.to_datetime(forecast["timestamp"]).min() == table["date"].iloc[-24]
    assert forecast["forecast"].notna().all()


@pytest.mark.parametrize(
    "form",
    [
        ["--model.tokens=tasks.forecast.tokens.ChannelTokens"],
        ["--model.tokens=tasks.forecast.tokens.StepTokens", "--model.decoder=core.Decoder"]
        + [f"--model.decoder.{name}" for name in ("embed_dim=16", "num_heads=4", "num_layers=1")],
        ["--model.head=tasks.forecast.heads.PointHead", "--model.head.loss=torch.nn.L1Loss"],
        *(
            pytest.param(form, marks=pytest.mark.slow)
            for form in (
                ["--model.head=tasks.forecast.heads.StudentTHead"],
                ["--model.encoder.attention=LinearAttention"],
                ["--model.encoder.attention=LongformerAttention", "--model.encoder.attention.window_size=4"],
                ["--model.encoder.norm=core.BatchNorm"],
            )
        ),
    ],
    ids=lambda form: form[0],
)
def test_every_form_is_a_flag(form, table, tmp_path):
    table.drop(columns="tariff").to_csv(tmp_path / "mine.csv", index=False)
    sizes = ["--data.context_length=48", "--data.prediction_length=12"]
    args = [*SMALL_FORECAST, "--data=SeriesFile", f"--data.file={tmp_path / 'mine.csv'}", *sizes, *form]
    folder = run_once("forecast", args, tmp_path / "runs")
    ckpt = folder / "checkpoints/best.ckpt"
    args = ["--ckpt_path", ckpt, "--input", tmp_path / "mine.csv", "--output", tmp_path / "out"]
    assert run("explain", *args) == 0
    assert len(pd.read_csv(tmp_path / "out/mine.csv")) == 24


def test_missing_weeks_of_carbon_dioxide(tmp_path):
    args = ["--data=MaunaLoaCO2", "--data.context_length=104", "--data.prediction_length=26"]
    folder = run_once("forecast", [*SMALL_FORECAST, *args], tmp_path / "runs")
    assert json.loads((folder / "metrics.json").read_text())["test/mae_original"] > 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--data=SeriesFile", "--data.file=nothing.csv"], ["nothing.csv"]),
        (["--data.context_length=5000"], ["context_length=5000"]),
        (["--data=MNIST"], ["MNIST", "context_length"]),
        (["--model.tokens.patch_length=1000"], ["patch_length=1000", "context_length=672"]),
        (["--model.head.levels=[0.9,0.1]"], ["levels=[0.9, 0.1]"]),
    ],
)
def test_a_mistake_is_one_line(args, words, tmp_path, capsys):
    assert run("fit", *FEW_BATCHES, *args, f"--runs={tmp_path}") != 0
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert all(word in errors[0] for word in words), errors[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["bad.csv"]),
        ("time,demand\n2000-01-01 00:00,1\n2000-01-01 00:30,x7\n", ["bad.csv", "line 3", "demand", "x7"]),
        ("time,other\n2000-01-01 00:00,1\n2000-01-01 00:30,2\n", ["bad.csv", "demand"]),
        ("time,demand\n2000-01-01 00:00,1\n2000-01-01 00:30,2\n2000-01-01 02:00,2\n", ["fill=ffill|interpolate|mask"]),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(content, words, forecast_trained, tmp_path, capsys):
    (tmp_path / "bad.csv").write_text(content)
    args = ["--ckpt_path", forecast_trained / "checkpoints/best.ckpt", "--input", tmp_path / "bad.csv"]
    assert run("predict", *args, "--output", tmp_path / "out") == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert all(word in errors[0] for word in words), errors[0]


def hourly(first="2023-03-20", rows=21 * 24, **more) -> pd.DataFrame:
    return pd.DataFrame({"date": pd.date_range(first, periods=rows, freq="h", **more)})


STEPS = np.arange(21 * 24)
SHAPES = {
    "sine and trend": lambda: hourly().assign(y=np.sin(STEPS / 4) + STEPS / 50),
    "daily and weekly seasons": lambda: hourly().assign(y=np.sin(STEPS / 12 * np.pi) + np.sin(STEPS / 84 * np.pi)),
    "steps": lambda: hourly().assign(y=STEPS // 100, z=1e6 * (STEPS > 300)),
    "a constant": lambda: hourly().assign(y=7.0, z=STEPS % 24),
    "a channel without a value": lambda: hourly().assign(y=STEPS % 24, z=np.nan),
    "clocks set forward": lambda: hourly(tz="Europe/London").assign(y=STEPS % 24),
    "clocks set back": lambda: hourly("2023-10-20", tz="America/New_York").assign(y=STEPS % 24),
    "a leap day": lambda: hourly("2024-02-20").assign(y=STEPS % 24),
}


BY_DEFAULT = {"steps", "a channel without a value", "clocks set back"}
"""Shapes whose trainings are not among the slow tests."""


@pytest.mark.parametrize(
    "shape", [pytest.param(name, marks=() if name in BY_DEFAULT else pytest.mark.slow) for name in SHAPES]
)
def test_series_of_every_shape_are_fitted_and_forecast(shape, tmp_path):
    table = SHAPES[shape]()
    table.to_csv(tmp_path / "mine.csv", index=False, encoding="utf-8-sig")  # with a byte order mark
    zone = [f"--data.layout.timezone={table['date'].dt.tz}"] if table["date"].dt.tz else []
    folder = small(tmp_path / "mine.csv", tmp_path / "runs", "--data.calendar=true", *zone)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert all(np.isfinite(value) for value in metrics.values())
    args = ["--ckpt_path", folder / "checkpoints/best.ckpt", "--input", tmp_path / "mine.csv"]
    assert run("predict", *args, "--output", tmp_path / "out") == 0
    forecast = pd.read_csv(tmp_path / "out/mine.csv")
    assert np.isfinite(forecast.select_dtypes("number")).all(axis=None)
    hours = pd.to_datetime(forecast["timestamp"][forecast["channel"] == "y"], utc=True)
    expected = pd.date_range(table["date"].iloc[-1], periods=25, freq="h")[1:]
    assert hours.tolist() == (expected.tz_convert("UTC") if zone else expected.tz_localize("UTC")).tolist()
    if shape == "a constant":
        constant = forecast[forecast["channel"] == "y"].drop(columns=["timestamp", "channel"])
        np.testing.assert_allclose(constant, 7.0, rtol=1e-6)


def test_a_single_column_or_row_is_one_line(tmp_path, capsys):
    for name, content, word in [("column", "y\n1\n2\n", "time"), ("row", "date,y\n2023-01-01,1\n", "row")]:
        (tmp_path / f"{name}.csv").write_text(content)
        args = ["fit", *FEW_BATCHES, "--data=SeriesFile", f"--data.file={tmp_path / name}.csv", f"--runs={tmp_path}"]
        assert run(*args) == 1
        (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert f"{name}.csv" in error
        assert word in error

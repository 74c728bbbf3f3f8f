"""Rolling-origin evaluation of a file: what is written is what a plain loop over its windows finds."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader

from core import Encoder
from tasks.forecast import report
from tasks.forecast.backtest import ORIGINS_DRAWN, backtest
from tasks.forecast.evaluation import ForecastEvaluation
from tasks.forecast.heads import PointHead, QuantileHead
from tasks.forecast.model import Forecaster
from tasks.forecast.module import ForecastModule

CONTEXT, HORIZON, SEASON, ROWS = 24, 6, 12, 120
NAMES = ["load", "wind"]
MEAN, STD = np.array([50.0, -3.0]), np.array([10.0, 0.5])


class Rolling:
    """The windows of a file of one series, as a `ForecastDataModule` gives them."""

    def __init__(self, stride, batch_size=7, *, names=("",)):
        rng = np.random.default_rng(0)
        season = np.sin(2 * np.pi * np.arange(ROWS) / SEASON)[:, None]
        self.values = season + 0.1 * rng.normal(size=(ROWS, 2))
        self.missing = rng.random((ROWS, 2)) < 0.05
        self.values[self.missing] = 0
        self.times = pd.date_range("2024-03-30", periods=ROWS, freq="h", tz="Europe/London")
        self.origins = range(CONTEXT, ROWS - HORIZON + 1, stride)
        self.names, self.batch_size = names, batch_size

    def window(self, origin, name):
        past, future, naive = (slice(at - length, at - length + count) for at, length, count in self.spans(origin))
        window = {"past": self.values[past], "past_mask": self.missing[past]}
        window |= {"future": self.values[future], "future_mask": self.missing[future]}
        window |= {"naive": self.values[naive], "naive_mask": self.missing[naive]}
        window |= {"mean": MEAN, "std": STD, "naive_error": np.array([0.2, 0.3])}
        plain = {"past_times": self.times[past], "future_times": self.times[future], "names": name}
        return {
            n: torch.from_numpy(x) if x.dtype == bool else torch.from_numpy(x).float() for n, x in window.items()
        }, plain

    @staticmethod
    def spans(origin):
        return (origin, CONTEXT, CONTEXT), (origin, 0, HORIZON), (origin, SEASON, HORIZON)

    def collate(self, windows):
        tensors, plain = zip(*windows, strict=True)
        batch = {name: torch.stack([each[name] for each in tensors]) for name in tensors[0]}
        return batch | {name: [each[name] for each in plain] for name in plain[0]} | {"channel_names": NAMES}

    def loader(self, batch_size=None):
        windows = [self.window(origin, name) for name in self.names for origin in self.origins]
        return DataLoader(windows, batch_size=batch_size or self.batch_size, collate_fn=self.collate)


@pytest.fixture(autouse=True)
def no_drawing(request, monkeypatch):
    """Pictures take longer than all else."""
    if "drawn" not in request.node.name:
        monkeypatch.setattr(report, "draw_forecast", lambda *_: b"")


def module(head=None) -> ForecastModule:
    torch.manual_seed(0)
    shape = {"context_length": CONTEXT, "prediction_length": HORIZON, "num_channels": 2}
    network = Forecaster(Encoder(8, 2, 1, 16), head=QuantileHead([0.1, 0.5, 0.9]) if head is None else head, **shape)
    return ForecastModule(network, facts={"channel_names": NAMES})


def run(folder, rolling, model=None, stride=5):
    asked = []

    def loader(file, *, stride):
        asked.append((file, stride))
        return rolling.loader()

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    data = SimpleNamespace(backtest_loader=loader)
    written = backtest(
        Trainer(**quiet), model or module(), data, input="in/grid.csv", output=str(folder), stride=stride
    )
    assert written == folder
    assert [(file.as_posix(), each) for file, each in asked] == [("in/grid.csv", stride)]


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_forecast_is_written_beside_what_came(tmp_path):
    rolling, model = Rolling(5), module()
    run(tmp_path, rolling, model)
    rows = read(tmp_path / "forecasts.csv")
    assert list(rows[0]) == ["origin", "timestamp", "channel", "forecast", "q0.1", "q0.5", "q0.9", "actual"]
    assert len(rows) == len(rolling.origins) * HORIZON * 2
    (whole,) = rolling.loader(1000)
    with torch.no_grad():
        forecast = model.eval().forecast(whole)
    flat = iter(rows)
    for window, origin in enumerate(rolling.origins):
        for step in range(HORIZON):
            for channel, name in enumerate(NAMES):
                row = next(flat)
                assert row["origin"] == rolling.times[origin].isoformat()
                assert row["timestamp"] == rolling.times[origin + step].isoformat()
                assert row["channel"] == name
                here = (window, step, channel)
                found = [float(row[column]) for column in ("forecast", "q0.1", "q0.9")]
                quantiles = forecast.quantiles[here].double().numpy()
                expected = (
                    np.array([float(forecast.point[here]), quantiles[0], quantiles[2]]) * STD[channel] + MEAN[channel]
                )
                assert found == pytest.approx(expected, rel=1e-5)
                place = origin + step, channel
                if rolling.missing[place]:
                    assert row["actual"] == ""
                else:
                    true = rolling.values[place] * STD[channel] + MEAN[channel]
                    assert float(row["actual"]) == pytest.approx(true, rel=1e-5)


def test_figures_are_those_of_all_windows(tmp_path):
    rolling, model = Rolling(5), module()
    run(tmp_path, rolling, model)
    (whole,) = rolling.loader(1000)
    evaluation = ForecastEvaluation([0.1, 0.5, 0.9])
    with torch.no_grad():
        forecast = model.eval().forecast(whole)
    evaluation.update(whole, forecast.point, forecast.quantiles)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    metrics.pop("loss")
    assert metrics == pytest.approx(evaluation.metrics(), rel=1e-5)
    assert len(read(tmp_path / "per_step.csv")) == HORIZON
    assert [row["channel"] for row in read(tmp_path / "per_channel.csv")] == NAMES
    assert (tmp_path / "errors.png").exists()


@pytest.mark.parametrize("batch_size", [1, 1000])
def test_any_size_of_batch_writes_the_same(tmp_path, batch_size):
    for name, size in [("a", 7), ("b", batch_size)]:
        run(tmp_path / name, Rolling(11, size))
    one, other = (pd.read_csv(tmp_path / name / "forecasts.csv") for name in "ab")
    pd.testing.assert_frame_equal(one, other, rtol=1e-5)


def test_some_origins_are_drawn_over_the_whole_file(tmp_path):
    rolling = Rolling(5)
    run(tmp_path, rolling)
    files = sorted(path.name for path in (tmp_path / "forecasts").iterdir())
    assert len(files) == ORIGINS_DRAWN * 2
    first, last = (rolling.times[rolling.origins[end]].strftime("%Y-%m-%dT%H-%M-%S") for end in (0, -1))
    assert any(name.startswith(f"grid_load_{first}") for name in files)
    assert any(name.startswith(f"grid_wind_{last}") for name in files)


def test_series_are_named_and_earlier_results_kept(tmp_path):
    for _ in range(2):
        run(tmp_path, Rolling(30, names=("a", "b")), module(PointHead()), stride=None)
    rows = read(tmp_path / "forecasts.csv")
    assert list(rows[0]) == ["series", "origin", "timestamp", "channel", "forecast", "actual"]
    assert {row["series"] for row in rows} == {"a", "b"}
    for name in ("forecasts.csv", "metrics.json", "per_step.csv", "per_channel.csv", "errors.png"):
        stem, _, end = name.partition(".")
        assert len(list(tmp_path.glob(f"{stem}*.{end}"))) == 2


def test_what_stops_half_way_leaves_nothing_and_takes_nothing(tmp_path):
    run(tmp_path, Rolling(30))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    model = module()
    model.in_units = lambda *_: (_ for _ in ()).throw(OSError("no space left"))
    with pytest.raises(OSError, match="no space"):
        run(tmp_path, Rolling(30), model)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before

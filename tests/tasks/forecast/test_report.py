"""What evaluation and prediction write: tables in the data's own units, and pictures."""

import csv
import io
import logging
import warnings
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.dates import num2date
from matplotlib.figure import Figure
from PIL import Image

from tasks.forecast import report
from tasks.forecast.drawing import draw_errors, draw_forecast
from tasks.forecast.evaluation import ForecastEvaluation
from tasks.forecast.report import channel_forecast, save_evaluation, save_predictions
from tests.tasks.forecast.helpers import LEVELS, predicted, windows


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def written(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn, instead of their pictures."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    return figures


def test_a_wide_file_gives_a_line_for_each_time_and_channel(tmp_path):
    batch = predicted([""], ["load", "wind"], zone="Europe/London")
    assert save_predictions([batch], ["in/grid.parquet"], tmp_path) == tmp_path
    rows = table(tmp_path / "grid.csv")
    assert list(rows[0]) == ["timestamp", "channel", "forecast", "q0.1", "q0.25", "q0.5", "q0.75", "q0.9"]
    assert [row["channel"] for row in rows] == ["load", "wind"] * 4
    times = [datetime.fromisoformat(row["timestamp"]) for row in rows[::2]]
    assert [str(time) for time in times] == [f"2024-03-31 {hour:02}:00:00+01:00" for hour in (9, 10, 11, 12)]
    for number, row in enumerate(rows):
        step, channel = divmod(number, 2)
        assert float(row["forecast"]) == pytest.approx(float(batch["point"][0, step, channel]), rel=1e-6)
        found = [float(row[f"q{level}"]) for level in LEVELS]
        assert found == pytest.approx(batch["quantiles"][0, step, channel].tolist(), rel=1e-6)
    assert written(tmp_path / "forecasts") == {"grid_load.png", "grid_wind.png"}


def test_the_clock_change_shows_in_the_offsets(tmp_path):
    save_predictions([predicted([""], ["y"], start="2024-10-26 13:00", zone="Europe/London")], ["grid.csv"], tmp_path)
    stamps = [row["timestamp"][11:] for row in table(tmp_path / "grid.csv")]
    assert stamps == ["01:00:00+01:00", "01:00:00+00:00", "02:00:00+00:00", "03:00:00+00:00"]


def test_series_of_several_files_over_several_batches(tmp_path):
    first = predicted(["a", "b", "c"], ["y"], index=[0, 0, 1], levels=())
    second = predicted(["d", "é/ü"], ["y"], index=[1, 3], levels=(), seed=1)
    save_predictions([first, second], ["in/1.csv", "in/x/2.csv", "in/bad.csv", "in/x/3.csv"], tmp_path)
    assert written(tmp_path) >= {"1.csv", "x/2.csv", "x/3.csv"}
    assert not (tmp_path / "bad.csv").exists()
    rows = table(tmp_path / "x/2.csv")
    assert list(rows[0]) == ["series", "timestamp", "channel", "forecast"]
    assert [row["series"] for row in rows] == ["c"] * 4 + ["d"] * 4
    assert rows[4]["timestamp"] == "2024-03-31T08:00:00"
    expected = [*first["point"][2].flatten().tolist(), *second["point"][0].flatten().tolist()]
    assert [float(row["forecast"]) for row in rows] == pytest.approx(expected, rel=1e-6)
    names = {"1_a_y.png", "1_b_y.png", "x/2_c_y.png", "x/2_d_y.png", "x/3_é-ü_y.png"}
    assert written(tmp_path / "forecasts") == names


def test_names_that_make_the_same_file_name_get_files_of_their_own(tmp_path):
    save_predictions([predicted([""], ["a b", "a/b", "A b", "../b"])], ["grid.csv"], tmp_path)
    assert len(written(tmp_path / "forecasts")) == 4
    assert [row["channel"] for row in table(tmp_path / "grid.csv")][:4] == ["a b", "a/b", "A b", "../b"]


def test_an_earlier_prediction_is_kept(tmp_path):
    for seed in (0, 1):
        save_predictions([predicted([""], ["y"], seed=seed)], ["grid.csv"], tmp_path)
    assert len(list(tmp_path.glob("grid*.csv"))) == len(list((tmp_path / "forecasts").glob("grid*.png"))) == 2
    expected = predicted([""], ["y"], seed=1)["point"][0, 0, 0]
    assert float(table(tmp_path / "grid.csv")[0]["forecast"]) == pytest.approx(float(expected))


def test_of_many_series_the_first_are_drawn_and_it_is_said(tmp_path, monkeypatch, caplog, drawn):
    batch = predicted([f"s{number}" for number in range(200)], ["x", "y"])
    with caplog.at_level(logging.INFO, logger="tasks"):
        save_predictions([batch], ["many.csv"], tmp_path)
    assert len(table(tmp_path / "many.csv")) == 200 * 4 * 2
    assert len(drawn) == report.MOST_PICTURES == 50
    assert "drew the first 50 of 400 forecasts" in caplog.text
    assert drawn[-1].axes[0].get_title() == "many, s24, y"


def test_history_is_drawn_in_the_datas_units_with_gaps(drawn):
    batch = predicted([""], ["load"], zone="Asia/Kolkata")
    batch["past_mask"][0, 8] = batch["past_mask"][0, 6] = True
    actual = np.arange(4.0)
    draw_forecast(channel_forecast(batch, 0, 0, actual), "title")
    (axes,) = drawn[0].axes
    lines = {line.get_label(): line for line in axes.lines}
    history = np.asarray(lines["history"].get_ydata())
    known = ~batch["past_mask"][0, :, 0].numpy()
    assert np.isnan(history).tolist() == (~known).tolist()
    np.testing.assert_allclose(history[known], (batch["past"][0, :, 0] * 10 + 100).numpy()[known], rtol=1e-6)
    np.testing.assert_allclose(lines["forecast"].get_ydata(), batch["point"][0, :, 0].numpy())
    assert np.asarray(lines["actual"].get_ydata()).tolist() == actual.tolist()
    (alone,) = (line for line in axes.lines if line.get_marker() == "." and line is not lines["history"])
    assert len(alone.get_xdata()) == 1, "a value between two missing ones is a point"
    bands = {band.get_label(): band for band in axes.collections}
    assert list(bands) == ["10% to 90%", "25% to 75%"]
    assert len({tuple(band.get_facecolor()[0]) for band in bands.values()}) == 2, "the legend tells them apart"
    corners = bands["10% to 90%"].get_paths()[0].vertices[:, 1]
    assert corners.min() == pytest.approx(float(batch["quantiles"][0, :, 0, 0].min()))
    assert corners.max() == pytest.approx(float(batch["quantiles"][0, :, 0, -1].max()))
    first = num2date(axes.xaxis.convert_units(lines["forecast"].get_xdata()[0]), tz=batch["future_times"][0].tz)
    assert first == batch["future_times"][0][0]
    assert str(axes.xaxis.get_major_locator().tz) == "Asia/Kolkata"


@pytest.mark.parametrize("frequency", ["min", "h", "D", "W-SAT", "MS", "YS"])
@pytest.mark.parametrize(("name", "values"), [("$x$", 1.0), ("語", 1e30), ("a\nb", np.nan), ("y", np.inf)])
def test_anything_can_be_drawn(frequency, name, values):
    batch = predicted([name], [name], frequency=frequency, start="1990-01-01", steps=1)
    batch["point"][:] = batch["quantiles"][..., 0] = values
    batch["past_mask"][:] = bool(np.isnan(values))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = draw_forecast(channel_forecast(batch, 0, 0), name)
    assert Image.open(io.BytesIO(picture)).size == (1200, 480)


def evaluation(batch):
    made = ForecastEvaluation(LEVELS)
    made.update(batch, batch["point"], batch["quantiles"])
    return made


def test_an_evaluation_leaves_tables_and_a_picture(tmp_path):
    measured = evaluation(windows())
    save_evaluation(measured, ["a", "b, or c", "d"], tmp_path)
    assert written(tmp_path) == {"per_step.csv", "per_channel.csv", "errors.png"}
    for name, rows in {
        "per_step": measured.per_step(),
        "per_channel": measured.per_channel(["a", "b, or c", "d"]),
    }.items():
        read = pd.read_csv(tmp_path / f"{name}.csv").to_dict("records")
        assert len(read) == len(rows)
        for one, other in zip(read, rows, strict=True):
            assert one.pop("channel", None) == other.pop("channel", None)
            assert one == pytest.approx(other, rel=1e-6)
    save_evaluation(measured, ["a", "b", "c"], tmp_path)
    assert len(list(tmp_path.glob("per_step*.csv"))) == 2


def test_what_mase_leaves_out_is_said(tmp_path, caplog):
    batch = windows()
    batch["naive_error"][:, 1:] = 0
    with caplog.at_level(logging.INFO, logger="tasks"):
        save_evaluation(evaluation(batch), ["a", "b", "c"], tmp_path)
    assert "mase leaves out values of b, c" in caplog.text
    assert table(tmp_path / "per_channel.csv")[1]["mase"] == ""


def test_no_window_leaves_nothing(tmp_path):
    save_evaluation(ForecastEvaluation(), ["a"], tmp_path)
    assert written(tmp_path) == set()


def test_errors_are_drawn_by_step_beside_seasonal_naive(drawn):
    rows = evaluation(windows()).per_step()
    draw_errors(rows)
    above, below = drawn[0].axes
    lines = {line.get_label(): list(line.get_ydata()) for line in [*above.lines, *below.lines]}
    assert lines["forecast"] == [row["mae"] for row in rows]
    assert lines["seasonal-naive"] == [row["naive_mae"] for row in rows]
    assert lines["80%"] == [100 * row["coverage_80"] for row in rows]
    assert lines["50%"] == [100 * row["coverage_50"] for row in rows]
    draw_errors([{name: value for name, value in row.items() if "coverage" not in name} for row in rows[:1]])
    assert len(drawn[1].axes) == 1


def test_values_on_the_device_and_with_gradients_are_written(tmp_path):
    batch = predicted([""], ["y"])
    batch["point"] = batch["point"].requires_grad_() + torch.zeros(1)
    save_predictions([batch], ["grid.csv"], tmp_path)

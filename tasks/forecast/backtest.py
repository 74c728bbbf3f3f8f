"""Rolling-origin evaluation over a user's file: what would have been forecast, and what came."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from pytorch_lightning import Callback, Trainer

from tasks.forecast.drawing import ChannelForecast
from tasks.forecast.report import MOST_PICTURES, as_csv, channel_forecast, forecast_table, in_units, save_pictures
from tasks.run import open_anew, write_anew

ORIGINS_DRAWN = 8
"""Origins whose forecasts are drawn at most, spread over the file."""


def backtest(
    trainer: Trainer,
    model: Any,
    datamodule: Any,
    *,
    input: str,  # noqa: A002 - the command's own word
    output: str,
    stride: int | None = None,
) -> Path:
    """Forecasts a file from origin after origin, and measures the forecasts against what came.

    Writes `metrics.json`, `per_step.csv`, `per_channel.csv`, `errors.png`, `forecasts.csv` and, for some origins,
    `forecasts/NAME_SERIES_CHANNEL_ORIGIN.png`. A line of `forecasts.csv` is a forecast as `predict` writes it, with
    `origin`, the time of its first step, before which all was known, and `actual`, what came. Files of an earlier
    backtest are kept under another name.

    Args:
        trainer: Runs the network.
        model: The `ForecastModule`.
        datamodule: The data module of the training, which reads files like its own.
        input: A CSV or Parquet file.
        output: The folder to write to.
        stride: Steps from an origin to the next; as many as are forecast if not given, so that none is forecast twice.

    Returns:
        The folder.

    Raises:
        ValueError: If the file cannot be read or is too short, or `stride` is less than 1.
        FileNotFoundError: If there is no such file.
    """
    loader, folder = datamodule.backtest_loader(Path(input), stride=stride), Path(output)
    windows, channels = len(loader.dataset), len(model.facts["channel_names"])
    count = min(windows, ORIGINS_DRAWN, max(1, MOST_PICTURES // channels))
    with open_anew(folder / "forecasts.csv") as file:
        writer = ForecastWriter(file, np.linspace(0, windows - 1, count).round().astype(int).tolist())
        trainer.callbacks.append(writer)  # pyright: ignore[reportAttributeAccessIssue]
        trainer.test(model, dataloaders=loader)
    metrics = {name.removeprefix("test/"): float(value) for name, value in trainer.callback_metrics.items()}
    write_anew(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    model.save_plots(folder)
    save_pictures(((Path(input).stem, forecast) for forecast in writer.kept), folder / "forecasts")
    return folder


class ForecastWriter(Callback):
    """Writes the forecasts of each batch of a test as it comes, and keeps some to draw.

    Args:
        file: Where to write.
        drawn: Numbers of the windows to keep.
    """

    def __init__(self, file: TextIO, drawn: Collection[int]) -> None:
        self.file = file
        self.drawn = drawn
        self.kept: list[ChannelForecast] = []
        self.windows = 0

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Takes a batch in."""
        made = pl_module.in_units(batch, outputs["forecast"])
        rows = range(len(made["point"]))
        origins, actual = [times[0].isoformat() for times in batch["future_times"]], in_units(batch, "future", rows)
        table = forecast_table(made, rows)
        where = int(table.columns.get_indexer(["timestamp"])[0])
        table.insert(where, "origin", np.repeat(origins, actual[0].size))
        table["actual"] = actual.reshape(-1)
        self.file.write(as_csv(table, header=not self.windows))
        for row in (row for row in rows if self.windows + row in self.drawn):
            for channel in range(actual.shape[2]):
                forecast = channel_forecast(made, row, channel, actual[row, :, channel])
                self.kept.append(forecast._replace(names=[*forecast.names, origins[row]]))
        self.windows += len(rows)

"""What forecasting leaves behind: tables of errors and of forecasts, and pictures of both."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from tasks.forecast.drawing import ChannelForecast, draw_errors, draw_forecast
from tasks.forecast.evaluation import ForecastEvaluation
from tasks.run import output_names, write_anew

MOST_PICTURES = 50
"""Pictures of forecasts that one command draws at most."""

_log = logging.getLogger(__name__)


def save_evaluation(evaluation: ForecastEvaluation, channel_names: Sequence[str], folder: Path) -> None:
    """Writes `per_step.csv`, `per_channel.csv` and `errors.png`; nothing if nothing was measured.

    Args:
        evaluation: Of all processes.
        channel_names: Name of each channel.
        folder: Where to write; files of an earlier evaluation are kept under another name.
    """
    per_step = evaluation.per_step()
    if not per_step:
        return
    for name, table in {"per_step": per_step, "per_channel": evaluation.per_channel(channel_names)}.items():
        write_anew(folder / f"{name}.csv", pd.DataFrame(table).to_csv(index=False, float_format="%.7g"))
    write_anew(folder / "errors.png", draw_errors(per_step))
    if left_out := [channel_names[number] for number in evaluation.without_scale()]:
        named = ", ".join(left_out[:5]) + (", ..." if len(left_out) > 5 else "")
        _log.info("mase leaves out values of %s: seasonal-naive has no error there within the training part", named)


def save_predictions(batches: Sequence[Mapping[str, Any]], names: Sequence[str], folder: Path) -> Path:
    """Writes `NAME.csv` for each file, as `forecast_table` says, and pictures in `forecasts`.

    Series and channels are drawn in their order, no more than `MOST_PICTURES`. Files of an earlier prediction are kept
    under another name.

    Args:
        batches: Of each batch what `forecast_table` and `channel_forecast` ask for, and the `index` of each sample's
            file among `names`.
        names: Path of each file.
        folder: Where to write.

    Returns:
        The folder.
    """
    outputs = output_names(names)
    tables: dict[int, list[pd.DataFrame]] = {}
    for batch in batches:
        for index in batch["index"].unique().tolist():
            rows = (batch["index"] == index).nonzero().flatten().tolist()
            tables.setdefault(index, []).append(forecast_table(batch, rows))
    for index, parts in tables.items():
        write_anew(folder / f"{outputs[index]}.csv", as_csv(pd.concat(parts)))
    forecasts = (
        (outputs[index], channel_forecast(batch, row, channel))
        for batch in batches
        for row, index in enumerate(batch["index"].tolist())
        for channel in range(len(batch["channel_names"]))
    )
    save_pictures(forecasts, folder / "forecasts")
    count = sum(len(batch["index"]) * len(batch["channel_names"]) for batch in batches)
    if count > MOST_PICTURES:
        _log.info("drew the first %d of %d forecasts", MOST_PICTURES, count)
    return folder


def forecast_table(batch: Mapping[str, Any], rows: Sequence[int]) -> pd.DataFrame:
    """The forecasts of some samples of a batch, a line for each series, time and channel.

    Columns are `series`, where the file names its series; `timestamp` by ISO 8601, with the offset from UTC where there
    is a timezone; `channel`; `forecast`; and for each level its quantile, such as `q0.1`.

    Args:
        batch: Has `names`, `channel_names` and `future_times`; and in the data's own units `point` (batch, horizon,
            channels) and `quantiles` (batch, horizon, channels, levels) of `levels`, or None.
        rows: The samples.
    """
    channels, horizon = len(batch["channel_names"]), batch["point"].shape[1]
    times = [time.isoformat() for row in rows for time in batch["future_times"][row]]
    table: dict[str, Any] = {}
    if any(batch["names"]):
        table["series"] = np.repeat([batch["names"][row] for row in rows], horizon * channels)
    table["timestamp"] = np.repeat(times, channels)
    table["channel"] = np.tile(batch["channel_names"], len(times))
    table["forecast"] = _numbers(batch["point"][rows]).reshape(-1)
    for number, level in enumerate(batch["levels"]):
        table[f"q{level:g}"] = _numbers(batch["quantiles"][rows][..., number]).reshape(-1)
    return pd.DataFrame(table)


def as_csv(table: pd.DataFrame, *, header: bool = True) -> str:
    """A table as text, its numbers with the digits that 32 bits hold."""
    return table.to_csv(index=False, header=header, float_format="%.7g")


def channel_forecast(
    batch: Mapping[str, Any], row: int, channel: int, actual: Float[np.ndarray, " horizon"] | None = None
) -> ChannelForecast:
    """One sample's forecast of one channel, with its history, in the data's own units.

    Args:
        batch: Has also `past` (batch, context, channels), standardised by `mean` and `std` (batch, channels), with
            `past_mask` and `past_times`.
        row: The sample.
        channel: The channel.
        actual: What came, if it is known.
    """
    names = [batch["names"][row], batch["channel_names"][channel]]
    return ChannelForecast(
        names=[name for name in names if name],
        past_times=batch["past_times"][row],
        past=in_units(batch, "past", [row])[0, :, channel],
        future_times=batch["future_times"][row],
        point=_numbers(batch["point"][row, :, channel]),
        levels=batch["levels"],
        quantiles=_numbers(batch["quantiles"][row, :, channel]) if batch["levels"] else None,
        actual=actual,
    )


def in_units(batch: Mapping[str, Any], name: str, rows: Sequence[int]) -> Float[np.ndarray, "rows steps channels"]:
    """The `past` or `future` of some samples in the data's own units; NaN where it is missing."""
    values, mean, std = (_numbers(batch[each][rows]) for each in (name, "mean", "std"))
    values = values * std[:, None] + mean[:, None]
    return np.where(batch[f"{name}_mask"][rows].cpu().numpy(), np.nan, values)


def save_pictures(forecasts: Iterable[tuple[str, ChannelForecast]], folder: Path) -> None:
    """Draws the first forecasts, no more than `MOST_PICTURES`, as `NAME_SERIES_CHANNEL.png`.

    Args:
        forecasts: Each with the name that its file begins with.
        folder: Where to write; earlier files are kept under another name.
    """
    drawn = list(islice(forecasts, MOST_PICTURES))
    plain = ["_".join([name, *file_names(each.names)]) for name, each in drawn]
    unlike = output_names([f"{name}.png" for name in plain])
    for (name, forecast), file in zip(drawn, unlike, strict=True):
        write_anew(folder / f"{file}.png", draw_forecast(forecast, ", ".join([name, *forecast.names])))


def file_names(names: Iterable[str]) -> list[str]:
    """Names of series and channels as they can stand in the name of a file; empty ones are left out.

    >>> file_names(["a/b", "", "50 %"])
    ['a-b', '50-']
    """
    return [re.sub(r"[^\w-]+", "-", name)[:60] for name in names if name]


def _numbers(values: Any) -> np.ndarray:
    return values.detach().cpu().double().numpy()

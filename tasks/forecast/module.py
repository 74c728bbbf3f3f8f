"""Forecasting under Lightning: its loss, its evaluation, its forecasts in the data's own units."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from tasks.base import ForExport, TaskModule
from tasks.explanation import Explanation, Recorded
from tasks.forecast import report
from tasks.forecast.backtest import backtest
from tasks.forecast.evaluation import ForecastEvaluation
from tasks.forecast.explanation import draw, draw_channels, explain
from tasks.forecast.heads import Forecast, mean_loss
from tasks.forecast.model import Forecaster, Tensors
from tasks.forecast.report import file_names
from tasks.means import shares


class ForecastModule(TaskModule):
    """Time-series forecasting.

    Args:
        network: The network.
        facts: What the data knows: names of the channels, lengths, the frequency, the scale of the values.
        monitor: The metric that decides which checkpoint is the best.
        monitor_mode: Whether the best is the least or the greatest.
        training: The arguments of `TaskModule`.
    """

    task = "forecast"
    shown = "mae"
    network_class = Forecaster
    links = ("context_length", "prediction_length", "num_channels", "num_covariates")
    facts_to_agree = (*links, "channel_names", "covariate_names", "frequency")
    commands = TaskModule.commands | {"backtest": backtest}

    def __init__(
        self,
        network: Forecaster,
        *,
        facts: dict[str, Any],
        monitor: str = "val/mae",
        monitor_mode: Literal["min", "max"] = "min",
        **training: Any,
    ) -> None:
        super().__init__(network, facts=facts, monitor=monitor, monitor_mode=monitor_mode, **training)
        self.forecaster = network
        self.evaluation = ForecastEvaluation(network.head.levels)
        self.tested: ForecastEvaluation | None = None

    def metric_names(self) -> list[str]:
        names = ["mse", "mae", "mse_original", "mae_original", "mase", "naive_mae", "naive_mae_original", "skill"]
        if self.evaluation.levels:
            names += ["pinball", *self.evaluation.intervals]
        return [*super().metric_names(), *(f"val/{name}" for name in names)]

    def forecast(self, batch: dict[str, Any]) -> Forecast:
        """Forecasts a batch, in its standardised units; batches in which nothing is missing take no mask along."""
        mask = batch["past_mask"]
        return self.forecaster(batch["past"], mask if mask.any() else None, batch.get("covariates"))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        losses = shares({"loss": mean_loss(self.forecast(batch), batch["future"], batch["future_mask"])})
        self.log_training(losses)
        return losses["loss"]

    def measure(self, batch: dict[str, Any], stage: str) -> dict[str, Forecast]:
        forecast = self.forecast(batch)
        self.means.update({"loss": mean_loss(forecast, batch["future"], batch["future_mask"])})
        self.evaluation.update(batch, forecast.point, forecast.quantiles)
        return {"forecast": forecast}

    def figures(self, stage: str) -> dict[str, Tensor | float]:
        every = self.evaluation.gather()
        self.evaluation.reset()
        if stage == "test":
            self.tested = every
        return {**super().figures(stage), **every.metrics()}

    def save_plots(self, folder: Path) -> None:
        if self.tested is not None:
            report.save_evaluation(self.tested, self.facts["channel_names"], folder)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        return self.in_units(batch, self.forecast(batch))

    def for_export(self) -> ForExport:
        shape = self.forecaster.shape
        inputs = {"past": torch.randn(2, shape.context_length, shape.num_channels)}
        if shape.num_covariates:
            steps = shape.context_length + shape.prediction_length
            inputs["covariates"] = torch.randn(2, steps, shape.num_covariates)
        return ForExport(Tensors(self.forecaster), inputs, free=dict.fromkeys(inputs, ("batch",)))

    def in_units(self, batch: dict[str, Any], forecast: Forecast) -> dict[str, Any]:
        """The batch with its forecasts in the data's own units: `point`, `quantiles` of `levels`."""
        loc, scale = batch["mean"][:, None], batch["std"][:, None]
        quantiles = forecast.quantiles
        return batch | {
            "point": forecast.point * scale + loc,
            "quantiles": None if quantiles is None else quantiles * scale[..., None] + loc[..., None],
            "levels": forecast.levels,
        }

    def save_predictions(self, batches: list[dict[str, Any]], names: list[str], folder: Path) -> Path:
        return report.save_predictions(batches, names, folder)

    def explained_layers(self) -> list[str]:
        if self.forecaster.decoder is None:
            return super().explained_layers()
        last = len(self.forecaster.decoder.decoder.layers) - 1
        return [*super().explained_layers(), f"decoder.decoder.layers.{last}.cross_attention"]

    def explain(
        self, batch: dict[str, Any], predicted: dict[str, Any], recorded: Recorded, names: Sequence[str]
    ) -> Iterator[Explanation]:
        layers, depth = [call for (call,) in recorded.values()], len(self.forecaster.encoder.layers)
        each = len(layers[0].q) // len(batch["index"])  # sequences of a sample
        drawing = draw_channels if self.forecaster.tokens.token_steps is None else draw
        for row, index in enumerate(batch["index"].tolist()):
            calls = [call.select(slice(row * each, (row + 1) * each)) for call in layers]
            weights = explain(self.forecaster, calls[:depth], *calls[depth:])
            weights = {measure: seen.float().cpu() for measure, seen in weights.items()}
            times = [time.isoformat() for time in batch["past_times"][row]]
            known = {"channel_names": batch["channel_names"], "times": times}
            part = "".join(f"_{name}" for name in file_names([batch["names"][row]]))
            pictures = drawing(batch, row, weights, Path(names[int(index)]).name)
            yield Explanation(index, part, weights | known, pictures)

"""Forecasting under Lightning: its loss, its evaluation, its forecasts in the data's own units."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from tasks.base import ForExport, TaskModule
from tasks.forecast import report
from tasks.forecast.backtest import backtest
from tasks.forecast.evaluation import ForecastEvaluation
from tasks.forecast.explanation import save_explanations
from tasks.forecast.heads import Forecast, mean_loss
from tasks.forecast.model import Forecaster, Tensors
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
    explains = True
    commands = {"backtest": backtest}  # noqa: RUF012 - as declared

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
        written = report.save_predictions(batches, names, folder)
        if self.explaining:
            save_explanations(batches, names, folder, self.forecaster)
        return written

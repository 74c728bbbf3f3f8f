"""Forecasting under Lightning: its loss, its evaluation, its forecasts in the data's own units."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from tasks.base import TaskModule
from tasks.explanation import Explanation, Recorded
from tasks.forecast import report
from tasks.forecast.backtest import backtest
from tasks.forecast.evaluation import ForecastEvaluation
from tasks.forecast.explanation import draw, draw_channels, explain
from tasks.forecast.heads import Forecast, mean_loss
from tasks.forecast.model import Forecaster
from tasks.forecast.report import file_names


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
        loss = mean_loss(self.forecast(batch), batch["future"], batch["future_mask"])
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/lr", self.trainer.optimizers[0].param_groups[-1]["lr"])
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self._evaluate(batch, "val")

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Forecast]:
        return {"forecast": self._evaluate(batch, "test")}

    def on_validation_epoch_end(self) -> None:
        self._log_figures("val")

    def on_test_epoch_end(self) -> None:
        self.tested = self._log_figures("test")

    def save_plots(self, folder: Path) -> None:
        if self.tested is not None:
            report.save_evaluation(self.tested, self.facts["channel_names"], folder)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        return self.in_units(batch, self.forecast(batch))

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

    def _evaluate(self, batch: dict[str, Any], stage: str) -> Forecast:
        forecast = self.forecast(batch)
        known = int((~batch["future_mask"]).sum())
        loss = mean_loss(forecast, batch["future"], batch["future_mask"])
        # Weighted by what is known in it, so that the mean over the batches is that over all values.
        self.log(f"{stage}/loss", loss, batch_size=known, on_epoch=True)
        self.evaluation.update(batch, forecast.point, forecast.quantiles)
        return forecast

    def _log_figures(self, stage: str) -> ForecastEvaluation:
        gathered = self.evaluation.gather()
        self.evaluation.reset()
        for name, value in gathered.metrics().items():
            self.log(f"{stage}/{name}", value, prog_bar=name == "mae")
        return gathered

"""Measures forecasts: sums of errors over windows, so that a figure is the same for any size of batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tasks.processes import gathered

Elements = tuple[Float[Tensor, "batch steps channels"], Bool[Tensor, "batch steps channels"]]
"""A measure of each forecast value, and where it counts."""

_COMPARED = "mae_original where seasonal-naive has a forecast"


class ForecastEvaluation:
    """Sums the errors of forecasts for each step ahead and channel, in float64: memory does not grow with the windows.

    With y what came, f the forecast, n the seasonal-naive forecast, all standardised by the data's `mean` and `std`, a
    figure is the mean over every window, step and channel whose y is known (masked ones never count) of

    - `mse`, `mae`: (y - f)^2, |y - f|; `mse_original`, `mae_original`: the same in the data's own units;
    - `mase`: |y - f| / s, s being the mean absolute error of seasonal-naive within the training part (Hyndman and
      Koehler 2006). Channels with s = 0, as constant ones, are left out of it: see `without_scale`;
    - `naive_mae`, `naive_mae_original`: |y - n|, standardised and in the data's units, where n is known too;
    - `skill`: 1 - `mae_original` / `naive_mae_original`, both where n is known too;
    - `pinball`: max(q (y - f_q), (q - 1) (y - f_q)), mean over the levels q (Koenker and Bassett 1978);
    - `coverage_80` and the like, for each pair of levels such as 0.1 and 0.9: whether f_0.1 <= y <= f_0.9.

    Args:
        levels: The levels whose quantiles are forecast, ascending in (0, 1); none for a point forecast.

    Raises:
        ValueError: If `levels` are not so.

    >>> ForecastEvaluation([0.1, 0.5, 0.9]).intervals
    {'coverage_80': (0, 2)}
    """

    def __init__(self, levels: Sequence[float] = ()) -> None:
        self.levels = tuple(levels)
        if not all(0 < level < 1 for level in self.levels) or sorted(set(self.levels)) != list(self.levels):
            raise ValueError(f"levels={list(levels)} must ascend within (0, 1)")
        self.intervals = {
            f"coverage_{round(100 * (high - low), 6):g}": (self.levels.index(low), self.levels.index(high))
            for low in self.levels
            for high in self.levels
            if low < high and abs(low + high - 1) < 1e-9
        }
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(
        self,
        batch: Mapping[str, Any],
        point: Float[Tensor, "batch steps channels"],
        quantiles: Float[Tensor, "batch steps channels levels"] | None = None,
    ) -> None:
        """Takes the forecasts of a batch of windows in.

        Args:
            batch: Has `future`, `future_mask`, `naive`, `naive_mask`, `std` and `naive_error`.
            point: The forecast, standardised.
            quantiles: Of each of `levels`, likewise; not given where there are no levels.

        Raises:
            ValueError: If there is not one quantile for each level.
        """
        given = 0 if quantiles is None else quantiles.shape[-1]
        if given != len(self.levels):
            raise ValueError(f"quantiles of {given} levels, but levels={list(self.levels)}")
        for name, (values, counted) in self._measure(batch, point, quantiles).items():
            # `where`, since 0 times a NaN or an infinity behind a mask is no 0.
            self._add(name, torch.where(counted, values, 0.0).sum(0), counted.sum(0))

    def gather(self) -> "ForecastEvaluation":
        """The evaluation of the windows of all processes; this one stays as it is."""
        every = ForecastEvaluation(self.levels)
        for sums, counts in gathered((self._sums, self._counts)):
            for name in sums:
                every._add(name, sums[name], counts[name])
        return every

    def reset(self) -> None:
        """Forgets all windows."""
        self._sums, self._counts = {}, {}

    def metrics(self) -> dict[str, float]:
        """Every figure that there is something to measure for, by its name."""
        figures = {name: float(values) for name, values in self._figures((0, 1)).items()}
        empty = {name for name, counts in self._counts.items() if not counts.any()}
        if not figures.get("naive_mae_original", 0.0) > 0:  # without an error or never known: no skill beside it
            empty.add("skill")
        return {name: value for name, value in figures.items() if name not in empty}

    def per_step(self) -> list[dict[str, Any]]:
        """The figures of each step ahead, from 1, over all channels; NaN where there is nothing to measure."""
        return self._table("step", dim=1)

    def per_channel(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """The figures of each channel over all steps ahead; NaN where there is nothing to measure.

        Args:
            names: Name of each channel.
        """
        table = self._table("channel", dim=0)
        return [{**row, "channel": name} for row, name in zip(table, names, strict=bool(table))]

    def without_scale(self) -> list[int]:
        """The channels that have known values left out of `mase`, since seasonal-naive had no error in training."""
        if not self._counts:
            return []
        return (self._counts["mae"] > self._counts["mase"]).any(0).nonzero().flatten().tolist()

    def _measure(self, batch: Mapping[str, Any], point: Tensor, quantiles: Tensor | None) -> dict[str, Elements]:
        true, naive, point = (each.detach().cpu().double() for each in (batch["future"], batch["naive"], point))
        known, unknown_naive = ~batch["future_mask"].cpu(), batch["naive_mask"].cpu()
        std, scale = (batch[name].cpu().double()[:, None] for name in ("std", "naive_error"))
        error, naive_error, compared = (point - true).abs(), (naive - true).abs(), known & ~unknown_naive
        elements = {
            "mse": (error.square(), known),
            "mae": (error, known),
            "mse_original": ((error * std).square(), known),
            "mae_original": (error * std, known),
            "mase": (error / scale, known & (scale > 0)),
            "naive_mae": (naive_error, compared),
            "naive_mae_original": (naive_error * std, compared),
            _COMPARED: (error * std, compared),
        }
        if quantiles is not None and self.levels:
            bounds, levels = quantiles.detach().cpu().double(), torch.tensor(self.levels, dtype=torch.double)
            above = true[..., None] - bounds
            elements["pinball"] = (torch.maximum(levels * above, (levels - 1) * above).mean(-1), known)
            for name, (low, high) in self.intervals.items():
                inside = (bounds[..., low] <= true) & (true <= bounds[..., high])
                elements[name] = (inside.double(), known)
        return elements

    def _add(self, name: str, total: Tensor, count: Tensor) -> None:
        self._sums[name] = self._sums.get(name, 0) + total
        self._counts[name] = self._counts.get(name, 0) + count

    def _figures(self, dim: int | tuple[int, ...]) -> dict[str, Tensor]:
        """The figures over some of (steps, channels); NaN where there is nothing to measure."""
        figures = {name: total.sum(dim) / self._counts[name].sum(dim) for name, total in self._sums.items()}
        if figures:
            naive = figures["naive_mae_original"]
            figures["skill"] = torch.where(naive > 0, 1 - figures.pop(_COMPARED) / naive, torch.nan)
        return figures

    def _table(self, key: str, dim: int) -> list[dict[str, Any]]:
        figures = {name: values.tolist() for name, values in self._figures(dim).items()}
        if not figures:
            return []
        counts = self._counts["mae"].sum(dim).tolist()
        rows = zip(*figures.values(), strict=True)
        return [
            {key: number + 1, "values": counts[number], **dict(zip(figures, row, strict=True))}
            for number, row in enumerate(rows)
        ]

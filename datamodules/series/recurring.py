"""Made series in which only a long history helps: a shape that comes again after thousands of steps, under noise."""

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from datamodules.series.base import ForecastDataModule
from datamodules.series.series import SeriesSet

_SMOOTHNESS = 12.0  # steps; values two days apart, 48 steps, have next to nothing in common
_PERIODS = 4


class RecurringShapes(ForecastDataModule):
    """Hourly series, each with a smooth random shape of its own that recurs every `period` steps, under white noise.

    `y_t = s_(t mod period) + noise * e_t`: s is white noise smoothed by a Gaussian of 12 steps around the circle,
    scaled to mean 0 and deviation 1; e is standard normal. So the last days say nothing about the next, and what is to
    come stands one, two, ... periods back. Each series has four periods to train, then a window to validate and one to
    test. They are made in memory in a fraction of a second, always the same.

    Seasonal-naive repeats a day, as of any hourly series, and knows nothing: its squared error is about
    `2 + 2 * noise^2`. That of the baseline that knows the period, `season_length=period`, is `2 * noise^2`; that of the
    shape itself, which nothing betters, is `noise^2`.

    Args:
        period: Steps after which a shape recurs.
        num_series: Number of series.
        noise: Standard deviation of the noise, that of the shape being 1.
        context_length: Hours of history that a forecast is made from; more than two periods if not given.
        prediction_length: Hours that are forecast.
        forecast: The other arguments of `ForecastDataModule`.

    Raises:
        ValueError: If `period` or `num_series` is less than 1, or `noise` is negative.
    """

    package = "numpy"

    def __init__(
        self,
        *,
        period: int = 1_800,
        num_series: int = 64,
        noise: float = 0.5,
        context_length: int = 4_096,
        prediction_length: int = 48,
        **forecast: Any,
    ) -> None:
        super().__init__(context_length=context_length, prediction_length=prediction_length, **forecast)
        for name, value in {"period": period, "num_series": num_series}.items():
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        if noise < 0:
            raise ValueError(f"noise={noise} must not be negative")
        self.period = period
        self.num_series = num_series
        self.noise = noise

    def _read(self) -> SeriesSet:
        random = np.random.default_rng(0)
        shapes = draw_shapes(random, self.num_series, self.period)
        length = _PERIODS * self.period + 2 * self._lengths["prediction_length"]
        values = shapes[:, np.arange(length) % self.period]
        values = values + self.noise * random.standard_normal(values.shape)
        return SeriesSet(
            names=[str(number) for number in range(self.num_series)],
            channel_names=["value"],
            covariate_names=[],
            values=values.reshape(-1, 1),
            covariates=np.empty((values.size, 0)),
            starts=np.arange(self.num_series + 1) * length,
            first=pd.DatetimeIndex(["2000-01-01"] * self.num_series),
            frequency="h",
        )

    def _borders(self, lengths: Int64[np.ndarray, " series"]) -> Int64[np.ndarray, "series 4"]:
        horizon = self._lengths["prediction_length"]
        return np.stack([np.zeros_like(lengths), lengths - 2 * horizon, lengths - horizon, lengths], axis=1)


def draw_shapes(random: np.random.Generator, count: int, period: int) -> Float64[np.ndarray, "count period"]:
    """Draws smooth closed curves with mean 0 and deviation 1."""
    steps = np.minimum(np.arange(period), period - np.arange(period))
    kernel = np.exp(-0.5 * (steps / _SMOOTHNESS) ** 2)
    noise = random.standard_normal((count, period))
    shapes = np.fft.irfft(np.fft.rfft(noise) * np.fft.rfft(kernel), period)
    return (shapes - shapes.mean(1, keepdims=True)) / shapes.std(1, keepdims=True)

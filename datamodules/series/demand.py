"""Half-hourly electricity demand of England and Wales, which the package `pmdarima` carries: no download, no folder."""

import ast
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from datamodules.series.base import ForecastDataModule
from datamodules.series.series import SeriesSet

_WEEK = 7 * 48


class ElectricityDemand(ForecastDataModule):
    """Demand of 12 weeks from Monday, 5 June 2000, in megawatts (Taylor 2003): 8 to train, 2 to validate, 2 to test.

    Taylor (2003), "Short-term electricity demand forecasting using double seasonal exponential smoothing", Journal of
    the Operational Research Society 54. It has a daily and a weekly season.

    Args:
        context_length: Half-hours of history that a forecast is made from; a week if not given.
        prediction_length: Half-hours that are forecast; a day if not given.
        season_length: Half-hours of the season that seasonal-naive repeats; a week if not given.
        forecast: The other arguments of `ForecastDataModule`.
    """

    package = "pmdarima"

    def __init__(
        self, *, context_length: int = _WEEK, prediction_length: int = 48, season_length: int = _WEEK, **forecast: Any
    ) -> None:
        lengths = {"context_length": context_length, "prediction_length": prediction_length}
        super().__init__(**lengths, season_length=season_length, **forecast)

    def _read(self) -> SeriesSet:
        demand = read_demand()
        return SeriesSet(
            names=[""],
            channel_names=["demand"],
            covariate_names=[],
            values=demand[:, None],
            covariates=np.empty((len(demand), 0)),
            starts=np.array([0, len(demand)]),
            first=pd.DatetimeIndex(["2000-06-05"]),
            frequency="30min",
        )

    def _borders(self, lengths: Int64[np.ndarray, " series"]) -> Int64[np.ndarray, "series 4"]:
        return np.array([[0, 8 * _WEEK, 10 * _WEEK, lengths[0]]])


def read_demand() -> Float64[np.ndarray, "4032"]:
    """Reads the demand, as `pmdarima.datasets.load_taylor()`, but without the seconds of the package's import.

    Raises:
        FileNotFoundError: If the package is missing or carries no demand.
    """
    package = importlib.util.find_spec("pmdarima")
    file = Path(package.origin or "").parent / "datasets" / "taylor.py" if package else None
    if file is None or not file.is_file():
        raise FileNotFoundError("the demand comes with the package pmdarima, which is missing: pip install pmdarima")
    lists = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.List)]
    return np.array(ast.literal_eval(max(lists, key=lambda node: len(node.elts))), np.float64)

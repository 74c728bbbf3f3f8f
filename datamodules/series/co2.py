"""Weekly carbon dioxide over Mauna Loa, which the package `statsmodels` carries: no download, no folder."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int64

from datamodules.series.base import ForecastDataModule
from datamodules.series.series import SeriesSet

_VAL_WEEKS, _TEST_WEEKS = 260, 520


class MaunaLoaCO2(ForecastDataModule):
    """CO2 in the air (parts per million by volume), 2,284 weeks from 29 March 1958, with weeks that are missing.

    Keeling and Whorf (2004), Carbon Dioxide Research Group, Scripps Institution of Oceanography. The last ten years are
    to test, the five before to validate, the 28.9 from 1958 to train; missing weeks stay missing.

    Args:
        context_length: Weeks of history that a forecast is made from; two years if not given.
        prediction_length: Weeks that are forecast; half a year if not given.
        forecast: The other arguments of `ForecastDataModule`.
    """

    package = "statsmodels"

    def __init__(self, *, context_length: int = 104, prediction_length: int = 26, **forecast: Any) -> None:
        super().__init__(context_length=context_length, prediction_length=prediction_length, **forecast)

    def _read(self) -> SeriesSet:
        table = read_co2()
        return SeriesSet(
            names=[""],
            channel_names=["co2"],
            covariate_names=[],
            values=table["co2"].to_numpy(np.float64)[:, None],
            covariates=np.empty((len(table), 0)),
            starts=np.array([0, len(table)]),
            first=pd.DatetimeIndex([str(table["date"].iloc[0])]),
            frequency="W-SAT",
        )

    def _borders(self, lengths: Int64[np.ndarray, " series"]) -> Int64[np.ndarray, "series 4"]:
        end = int(lengths[0])
        return np.array([[0, end - _TEST_WEEKS - _VAL_WEEKS, end - _TEST_WEEKS, end]])


def read_co2() -> pd.DataFrame:
    """Reads `date` (YYYYMMDD, Saturdays) and `co2` (NaN = missing) without the seconds of the package's import.

    Raises:
        FileNotFoundError: If the package is missing or carries no such file.
    """
    package = importlib.util.find_spec("statsmodels")
    file = Path(package.origin or "").parent / "datasets" / "co2" / "co2.csv" if package else None
    if file is None or not file.is_file():
        raise FileNotFoundError("the CO2 comes with the package statsmodels, which is missing: pip install statsmodels")
    return pd.read_csv(file)

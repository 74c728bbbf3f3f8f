"""Electricity Transformer Temperature (Zhou et al. 2021, "Informer"): loads and oil temperature of two transformers."""

from typing import Any, Literal

import numpy as np
from jaxtyping import Int64

from datamodules.series.base import ForecastDataModule
from datamodules.series.layout import TableLayout
from datamodules.series.reading import read_series
from datamodules.series.series import SeriesSet

_MONTH = 30 * 24  # hours, as the papers count them
_MONTHS = (0, 12, 16, 20)
_COLUMNS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")


class ETT(ForecastDataModule):
    """Six loads and the oil temperature of a transformer: 12 months to train, 4 to validate, 4 to test.

    The temperature (OT) is in degrees Celsius. A month has 30 days; what follows them in the file is not used. The file
    is `root/ETT-small/NAME.csv` or `root/NAME.csv`.

    Args:
        name: The transformer and the step: ETTh1 and ETTh2 have a row an hour, ETTm1 and ETTm2 one every 15 minutes.
        forecast: The arguments of `ForecastDataModule`.
    """

    found_by = ("ETT[hm][12].csv",)

    def __init__(self, *, name: Literal["ETTh1", "ETTh2", "ETTm1", "ETTm2"] = "ETTh1", **forecast: Any) -> None:
        super().__init__(**forecast)
        self.transformer = name

    @property
    def _name(self) -> str:
        return self.transformer

    def _read(self) -> SeriesSet:
        files = [self.root / "ETT-small" / f"{self.transformer}.csv", self.root / f"{self.transformer}.csv"]
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            raise FileNotFoundError(
                f"{files[0]}: no such file; get it from https://github.com/zhouhaoyi/ETDataset and give its folder "
                "with --data.root or $ONECORE_DATA"
            )
        return read_series(file, TableLayout(value_columns=list(_COLUMNS)))

    def _borders(self, lengths: Int64[np.ndarray, " series"]) -> Int64[np.ndarray, "series 4"]:
        rows = np.array(_MONTHS) * _MONTH * (4 if self.transformer.startswith("ETTm") else 1)
        if lengths[0] < rows[-1]:
            raise ValueError(
                f"{self.transformer}: the file has {lengths[0]} rows, but 20 months need {rows[-1]}; get it anew"
            )
        return rows[None]

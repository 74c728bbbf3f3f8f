"""Your own series in a file, CSV or Parquet, wide or long."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from datamodules.series.base import ForecastDataModule
from datamodules.series.layout import TableLayout
from datamodules.series.reading import find_layout, read_series
from datamodules.series.series import SeriesSet


class SeriesFile(ForecastDataModule):
    """Your own series: the first rows of each to train, the next to validate, the last to test.

    Args:
        file: A CSV or Parquet file.
        layout: Which column is what; at prediction, what is given here goes before the training's.
        val_share: Share of each series that is validated on.
        test_share: Share of each series that is tested on.
        forecast: The arguments of `ForecastDataModule`.

    Raises:
        ValueError: If a share is not in [0, 1), or both leave nothing to train.
    """

    def __init__(
        self,
        *,
        file: str,
        layout: TableLayout = TableLayout(),  # noqa: B008 - frozen, and so shared without harm
        val_share: float = 0.1,
        test_share: float = 0.2,
        **forecast: Any,
    ) -> None:
        super().__init__(**forecast)
        for name, share in (("val_share", val_share), ("test_share", test_share)):
            if not 0 <= share < 1:
                raise ValueError(f"{name}={share} must be in [0, 1)")
        if val_share + test_share >= 1:
            raise ValueError(f"val_share={val_share} and test_share={test_share} leave nothing to train")
        self.file = Path(file).expanduser().absolute()
        self.val_share = val_share
        self.test_share = test_share
        self._columns = layout
        self._given |= asdict(layout)

    @property
    def _name(self) -> str:
        return str(self.file)

    def _read(self) -> SeriesSet:
        return read_series(self.file, self._columns, fill=self._fill)

    def _borders(self, lengths: Int64[np.ndarray, " series"]) -> Int64[np.ndarray, "series 4"]:
        test = np.round(lengths * self.test_share).astype(np.int64)
        val = np.round(lengths * self.val_share).astype(np.int64)
        return np.stack([0 * lengths, lengths - test - val, lengths - test, lengths], axis=1)

    def _layout(self, series: SeriesSet) -> TableLayout:  # noqa: ARG002 - the file says more than its series
        return find_layout(self.file, self._columns)

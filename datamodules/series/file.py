"""A file of the user's own series, CSV or Parquet, wide or long."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from datamodules.series.base import ForecastDataModule
from datamodules.series.reading import read_series
from datamodules.series.series import SeriesSet


class SeriesFile(ForecastDataModule):
    pass

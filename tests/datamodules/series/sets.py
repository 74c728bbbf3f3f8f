"""Series made by hand."""

import numpy as np
import pandas as pd

from datamodules.series.base import ForecastDataModule
from datamodules.series.series import SeriesSet


def series_set(*tables, covariates=None, frequency="h", first="2024-01-01", timezone=None) -> SeriesSet:
    """One series a table of (rows, channels); `covariates` a list of (rows, covariates)."""
    tables = [np.asarray(table, float).reshape(len(table), -1) for table in tables]
    known = [np.zeros((len(table), 0)) for table in tables] if covariates is None else covariates
    firsts = [first] * len(tables) if isinstance(first, str) else first
    return SeriesSet(
        names=[f"s{number}" for number in range(len(tables))],
        channel_names=[f"c{number}" for number in range(tables[0].shape[1])],
        covariate_names=[f"k{number}" for number in range(known[0].shape[1])],
        values=np.concatenate(tables),
        covariates=np.concatenate(known),
        starts=np.cumsum([0, *map(len, tables)]),
        first=pd.DatetimeIndex(firsts, tz=timezone),
        frequency=frequency,
    )


class Given(ForecastDataModule):
    """Series that are given, in parts of 60, 20 and 20 percent of each."""

    def __init__(self, series, **forecast):
        super().__init__(**{"context_length": 6, "prediction_length": 3, "batch_size": 4, "seed": 3, **forecast})
        self.given = series

    def _read(self):
        return self.given

    def _borders(self, lengths):
        return np.stack([0 * lengths, lengths * 6 // 10, lengths * 8 // 10, lengths], axis=1)


def noise(*shape, missing=0.0, seed=0):
    random = np.random.default_rng(seed)
    values = random.normal(5, 3, shape)
    values[random.random(shape) < missing] = np.nan
    return values


def windows_of(loader):
    """What a loader's batches hold, put together."""
    batches = list(loader)
    return {name: np.concatenate([np.asarray(batch[name]) for batch in batches]) for name in batches[0]}

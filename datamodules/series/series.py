"""Series in memory: one after another, each on a regular grid of times."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64

from datamodules.series.frequency import parse_frequency


@dataclass(frozen=True, eq=False)
class SeriesSet:
    """One or many series on regular grids of time, one after another in memory.

    Args:
        names: Id of each series; [""] for a wide file, which is one series of many channels.
        channel_names: The columns to forecast.
        covariate_names: The columns that are known in the future as well.
        values: What to forecast, in the data's own units; NaN = missing.
        covariates: What is known; NaN = missing.
        starts: Rows of series i are `starts[i] : starts[i + 1]`.
        first: Time of the first row of each series, with a timezone or without.
        frequency: The step of time from a row to the next, a pandas offset alias such as `h`, `30min`, `D`, `W-SAT`,
            `MS`.
    """

    names: list[str]
    channel_names: list[str]
    covariate_names: list[str]
    values: Float[np.ndarray, "rows channels"]
    covariates: Float[np.ndarray, "rows covariates"]
    starts: Int64[np.ndarray, " series_and_end"]
    first: pd.DatetimeIndex
    frequency: str

    def times(self, series: int, row: int, count: int) -> pd.DatetimeIndex:
        """Gives the times of `count` rows of a series from `row` on, counted within it; they may lie beyond its end.

        Steps of less than a day are the same time long each, whatever clocks do; days and more keep the time that a
        clock on the wall shows. Where clocks skip that time, it is the first after it; where they show it twice, it is
        the first of the two.
        """
        step = parse_frequency(self.frequency)
        first = self.first[series : series + 1].as_unit("us")
        zone = first.tz
        if zone is not None:
            first = first.tz_convert("UTC" if step.clock else zone).tz_localize(None)
        times = pd.DatetimeIndex(step.time(first.asi8, np.arange(row, row + count)).view("M8[us]"))
        if zone is None:
            return times
        if step.clock:
            return times.tz_localize("UTC").tz_convert(zone)
        return times.tz_localize(zone, ambiguous=np.ones(count, bool), nonexistent="shift_forward")

"""Clocks on the wall and UTC: what a timezone's changes of the clocks make of times."""

import numpy as np
import pandas as pd
from jaxtyping import Int64

from datamodules.series.frequency import DAY
from datamodules.series.timestamps import NO_TIME


def to_wall(times: Int64[np.ndarray, " rows"], zone: str) -> Int64[np.ndarray, " rows"]:
    """Gives what the clocks of a zone show at times of UTC; both in microseconds since 1970."""
    return _index(times).tz_localize("UTC").tz_convert(zone).tz_localize(None).asi8


def to_utc(
    wall: Int64[np.ndarray, " rows"], starts: Int64[np.ndarray, " series_and_end"], zone: str
) -> Int64[np.ndarray, " rows"]:
    """Gives the times of UTC at which the clocks of a zone show what series say, in the order of the file.

    An hour that clocks show twice is the earlier of the two until a series' times go back in it, and then the later;
    in a file whose newest rows come first the other way round. Where a series shows it once it is the earlier, but the
    later where the series begins with it.

    Args:
        wall: Times in microseconds since 1970, as the clocks show them.
        starts: Rows of series i are `starts[i] : starts[i + 1]`.
        zone: Name of the timezone.

    Returns:
        Times in microseconds since 1970 of UTC; `NO_TIME` where clocks skip what is shown.
    """
    times = _index(wall).tz_localize(zone, ambiguous="NaT", nonexistent="NaT").asi8.copy()
    unclear = np.flatnonzero(times == NO_TIME)
    if not len(unclear):
        return times
    shown = _index(wall[unclear])
    early, late = (
        shown.tz_localize(zone, ambiguous=np.full(len(unclear), is_summer), nonexistent="NaT").asi8
        for is_summer in (True, False)
    )
    series = np.searchsorted(starts, unclear, side="right") - 1
    forward = wall[starts[series + 1] - 1] >= wall[starts[series]]
    begins = np.ones(len(unclear), bool)  # a run of rows that lie in one such hour
    begins[1:] = (np.diff(unclear) != 1) | (np.diff(series) != 0) | (abs(np.diff(early)) >= DAY)
    run, firsts = np.cumsum(begins) - 1, np.flatnonzero(begins)
    lasts = np.append(firsts[1:], len(unclear)) - 1
    back = ~begins & (np.diff(wall[unclear], prepend=0) * np.where(forward, 1, -1) <= 0)
    backs = np.cumsum(back)
    second_pass = backs > backs[firsts][run]
    # Rows that show the hour once go on from the rows before them, and else lead to those after them.
    opens, closes = unclear[firsts] == starts[series[firsts]], unclear[lasts] == starts[series[lasts] + 1] - 1
    leads_on = np.where(forward[firsts], opens & ~closes, closes & ~opens)
    once = ~np.logical_or.reduceat(back, firsts)
    times[unclear] = np.where(np.where(once[run], leads_on[run], second_pass == forward), late, early)
    return times


def _index(times: Int64[np.ndarray, " rows"]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(times.view("M8[us]"))

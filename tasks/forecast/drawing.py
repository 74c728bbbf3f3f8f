"""Draws forecasts: history, forecast and the bands of its quantiles over time; errors by steps ahead."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from tasks.figures import as_png


class ChannelForecast(NamedTuple):
    """One channel's forecast, in the data's own units; NaN is missing.

    Attributes:
        names: Of the series, where it has one, and of the channel.
        past_times: Times of the history.
        past: The history.
        future_times: Times of the forecast.
        point: The forecast.
        levels: Levels of its quantiles, ascending.
        quantiles: Of each level.
        actual: What came, if it is known.
    """

    names: Sequence[str]
    past_times: pd.DatetimeIndex
    past: Float[np.ndarray, " context"]
    future_times: pd.DatetimeIndex
    point: Float[np.ndarray, " horizon"]
    levels: Sequence[float] = ()
    quantiles: Float[np.ndarray, "horizon levels"] | None = None
    actual: Float[np.ndarray, " horizon"] | None = None


def draw_forecast(forecast: ChannelForecast, title: str) -> bytes:
    """Draws history, forecast and bands, as PNG.

    Args:
        forecast: What is drawn.
        title: Says what it is.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    draw_history(axes, forecast.past_times, forecast.past)
    times = plain_times(forecast.future_times)
    bands = _bands(forecast.levels)
    for number, (low, high, label) in enumerate(bands, start=1):
        assert forecast.quantiles is not None
        lower, upper = forecast.quantiles[:, low], forecast.quantiles[:, high]
        shade = colormaps["Oranges"](0.5 * number / len(bands))  # opaque, so that the legend has each band's own
        axes.fill_between(times, lower, upper, color=shade, linewidth=0, label=label)
    mark = "." if len(times) == 1 else None  # a line of one point would not be seen
    if forecast.actual is not None:
        axes.plot(times, forecast.actual, color="black", linewidth=1, marker=mark, label="actual")
    axes.plot(times, forecast.point, color="tab:red", linewidth=1.2, marker=mark, label="forecast")
    axes.axvline(times[0], color="gray", linewidth=0.8, linestyle=":")
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.legend(fontsize=8, loc="upper left")
    return as_png(figure)


def draw_history(axes: Any, times: pd.DatetimeIndex, values: Float[np.ndarray, " steps"]) -> None:
    """Draws a channel over time, whose axis shows the clock of the times' own timezone.

    A value between two missing ones would be no line, and is a point.
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    gaps = np.isnan(np.concatenate([[np.nan], values, [np.nan]]))
    alone = ~gaps[1:-1] & gaps[:-2] & gaps[2:]
    axes.plot(plain_times(times), values, color="tab:blue", linewidth=1, label="history")
    axes.plot(plain_times(times[alone]), values[alone], ".", color="tab:blue", markersize=3)
    zone = times.tz or "UTC"
    locator = AutoDateLocator(tz=zone)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone))
    axes.grid(alpha=0.3)


def draw_errors(per_step: Sequence[Mapping[str, Any]]) -> bytes:
    """Draws the absolute error by steps ahead beside seasonal-naive's, and the coverage of intervals, as PNG.

    Args:
        per_step: The table `ForecastEvaluation.per_step` gives.
    """
    from matplotlib.figure import Figure

    intervals = [name for name in per_step[0] if name.startswith("coverage_")]
    figure = Figure(figsize=(8, 4 + 2.5 * bool(intervals)), layout="constrained")
    above, *below = np.atleast_1d(figure.subplots(1 + bool(intervals), 1, sharex=True))
    steps = [row["step"] for row in per_step]
    mark = "." if len(steps) == 1 else None
    for name, label, color in [("mae", "forecast", "tab:red"), ("naive_mae", "seasonal-naive", "gray")]:
        above.plot(steps, [row[name] for row in per_step], color=color, label=label, marker=mark)
    above.set(ylabel="mean absolute error, standardised", ylim=(0, None))
    above.legend(fontsize=8)
    for axes in below:
        for number, name in enumerate(intervals):
            wanted, color = float(name.removeprefix("coverage_")), f"C{number}"
            axes.plot(steps, [100 * row[name] for row in per_step], color=color, label=f"{wanted:g}%", marker=mark)
            axes.axhline(wanted, color=color, linewidth=0.8, linestyle=":")
        axes.set(ylabel="coverage, %", ylim=(0, 100))
        axes.legend(fontsize=8, title="interval", title_fontsize=8)
    (below[-1] if below else above).set_xlabel("steps ahead")
    return as_png(figure)


def _bands(levels: Sequence[float]) -> list[tuple[int, int, str]]:
    """The quantiles that bound each band, outermost first, and the band's name.

    >>> _bands([0.1, 0.25, 0.5, 0.75, 0.9])
    [(0, 4, '10% to 90%'), (1, 3, '25% to 75%')]
    """
    names = [f"{100 * level:g}%" for level in levels]
    count = len(levels)
    return [(low, count - 1 - low, f"{names[low]} to {names[count - 1 - low]}") for low in range(count // 2)]


def plain_times(times: pd.DatetimeIndex) -> np.ndarray:
    """Times as matplotlib takes them: in UTC, and without a timezone."""
    return (times if times.tz is None else times.tz_convert("UTC").tz_localize(None)).to_numpy()

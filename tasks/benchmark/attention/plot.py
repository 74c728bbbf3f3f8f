"""The curves of `python -m tasks.benchmark attention`: time and memory against length."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasks import figures
from tasks.benchmark.attention.plan import ATTENTIONS, OURS, direction
from tasks.benchmark.attention.rows import Row, measured
from tasks.benchmark.measure import MEBIBYTE


def as_png(rows: Sequence[Row]) -> bytes:
    """Draws a pair of panels, time over memory, for each direction; ours in solid lines, peers in dashed ones."""
    directions = sorted({row["causal"] for row in rows})
    figure = Figure(figsize=(5.5 * len(directions), 8), layout="constrained")
    panels = figure.subplots(2, len(directions), sharex=True, sharey="row", squeeze=False)
    for column, causal in enumerate(directions):
        _draw(panels[0][column], rows, causal, lambda row: row["seconds"])
        _draw(panels[1][column], rows, causal, lambda row: row["peak_bytes"] / MEBIBYTE)
        panels[0][column].set_title(direction(causal))
        panels[1][column].set_xlabel("length (tokens)")
    panels[0][0].set_ylabel("forward and backward (s)")
    panels[1][0].set_ylabel("peak memory (MiB)")
    if panels[0][0].lines:
        panels[0][0].legend(frameon=False)
    return figures.as_png(figure)


def _draw(panel: Axes, rows: Sequence[Row], causal: bool, value: Callable[[Row], float]) -> None:
    for number, attention in enumerate(ATTENTIONS):
        own = measured(rows, attention, causal)
        if own:
            style = "o-" if attention in OURS else "s--"
            panel.plot(list(own), [value(row) for row in own.values()], style, color=f"C{number}", label=attention)
    show_lengths(panel, rows)


def show_lengths(panel: Axes, rows: Sequence[Row]) -> None:
    """Logarithmic axes with a mark at each measured length."""
    lengths = sorted({row["length"] for row in rows})
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xticks(lengths, [str(length) for length in lengths])
    panel.xaxis.minorticks_off()
    panel.grid(alpha=0.3)

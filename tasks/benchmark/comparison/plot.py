"""The comparison as pictures: quality against cost, and time and memory against length."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from tasks import figures
from tasks.benchmark.attention.plan import direction
from tasks.benchmark.attention.plot import show_lengths
from tasks.benchmark.attention.rows import MEASURED, Row, measured
from tasks.benchmark.comparison.marks import Mark, marks_of
from tasks.benchmark.comparison.numbers import COSTS, Cell, Entry, Measure, Quality, Report, groups, number
from tasks.benchmark.comparison.scaling import crossing_point, curve_names
from tasks.benchmark.measure import MEBIBYTE


def as_pngs(report: Report) -> dict[str, bytes]:
    """Draws `quality_TASK.png`, a row of panels an entry, and `scaling.png`; leaves out what has no number yet."""
    known = [cell for cell in report["cells"] if number(cell, "quality", "mean") is not None]
    drawn = groups({**report, "cells": known})
    pictures = {}
    for task in dict.fromkeys(entry["task"] for entry in report["entries"]):
        own = [(entry, cells) for entry, cells in drawn if entry["task"] == task and cells]
        if own:
            pictures[f"quality_{task}.png"] = _quality(own, marks_of(cell["attention"] for cell in report["cells"]))
    rows = (report.get("scaling") or {}).get("rows") or []
    if any(row["status"] == MEASURED for row in rows):
        pictures["scaling.png"] = _scaling(report, rows)
    return pictures


def _quality(own: Sequence[tuple[Entry, Sequence[Cell]]], marks: Mapping[str, Mark]) -> bytes:
    figure = Figure(figsize=(3.6 * len(COSTS), 3.4 * len(own)), layout="constrained")
    panels = figure.subplots(len(own), len(COSTS), sharey="row", squeeze=False)
    for line, (entry, cells) in zip(panels, own, strict=True):
        for panel, cost in zip(line, COSTS.values(), strict=True):
            _draw_quality(panel, entry, cells, cost, marks)
        quality = Quality.of(entry, cells)
        arrow = "higher" if entry["higher_is_better"] else "lower"
        line[0].set_ylabel(_text(f"{entry['label']}{' (%)' if quality.unit else ''}, {arrow} is better"))
        line[0].set_title(_text(f"{entry['title']} ({entry['inputs']})"), loc="left", fontsize="medium")
    names = {cell["attention"] for _, cells in own for cell in cells}
    _legend(figure, {name: mark for name, mark in marks.items() if name in names})
    return figures.as_png(figure)


def _draw_quality(panel: Axes, entry: Entry, cells: Sequence[Cell], cost: Measure, marks: Mapping[str, Mark]) -> None:
    quality = Quality.of(entry, cells)
    for cell in cells:
        x, y, mark = cost.estimate(cell), quality.estimate(cell), marks[cell["attention"]]
        if x is not None and y is not None and x.value > 0:
            across = [[x.value - x.low], [x.high - x.value]]
            along = [[y.value - y.low], [y.high - y.value]]
            panel.errorbar(x.value, y.value, along, across, mark.marker, color=mark.light, capsize=3, markersize=7)
    panel.set_xlabel(f"{cost.title} ({cost.unit})")
    panel.set_xscale("log")
    panel.grid(alpha=0.3)
    if panel.has_data():
        panel.margins(0.15)
        least, greatest = panel.get_xlim()
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if greatest > 6 * least else MaxNLocator(4))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        panel.text(0.5, 0.5, "not measured", ha="center", va="center", transform=panel.transAxes)
        panel.set_xticks([])
    panel.xaxis.minorticks_off()


def _scaling(report: Report, rows: Sequence[Row]) -> bytes:
    directions = sorted({row["causal"] for row in rows})
    marks = marks_of(row["attention"] for row in rows)
    figure = Figure(figsize=(5.5 * len(directions), 8), layout="constrained")
    panels = figure.subplots(2, len(directions), sharex=True, sharey="row", squeeze=False)
    for column, causal in enumerate(directions):
        time, memory = panels[:, column]
        for name in curve_names(rows, causal):
            own, mark = measured(rows, name, causal), marks[name]
            style = {"color": mark.light, "marker": mark.marker, "linewidth": 1.2}
            seconds = [(length, 1e3 * row["seconds"]) for length, row in own.items() if row.get("seconds")]
            peaks = [(length, row["peak_bytes"] / MEBIBYTE) for length, row in own.items() if row.get("peak_bytes")]
            for panel, points in ((time, seconds), (memory, peaks)):
                panel.plot(*zip(*points, strict=True), **style) if points else None
        _mark_crossovers(time, report, causal, marks)
        time.set_title(direction(causal))
        memory.set_xlabel("length (tokens)")
        for panel in (time, memory):
            show_lengths(panel, rows)
    panels[0][0].set_ylabel("forward and backward (ms)")
    panels[1][0].set_ylabel("peak memory (MiB)")
    _legend(figure, marks)
    return figures.as_png(figure)


def _mark_crossovers(panel: Axes, report: Report, causal: bool, marks: Mapping[str, Mark]) -> None:
    """A dotted line from where an attention becomes faster than full attention down to the length."""
    own = [each for each in report["scaling"].get("crossovers") or () if each["causal"] == causal]
    found = [(point, each["attention"]) for each in own if (point := crossing_point(report["scaling"]["rows"], each))]
    for place, ((length, seconds), name) in enumerate(sorted(found)):
        colour = marks[name].light
        panel.plot(length, 1e3 * seconds, "o", color=colour, fillstyle="none", markersize=14)
        panel.axvline(length, color=colour, linestyle=":", linewidth=1)
        text, height = _text(f" {name} from {length:,.0f}"), 0.95 - 0.05 * place
        panel.text(length, height, text, color=colour, fontsize="small", transform=panel.get_xaxis_transform())


def _legend(figure: Figure, marks: Mapping[str, Mark]) -> None:
    lines = [Line2D([], [], color=mark.light, marker=mark.marker, label=_text(name)) for name, mark in marks.items()]
    figure.legend(handles=lines, loc="outside lower center", ncols=4, frameon=False)


def _text(text: str) -> str:
    """Text in which a dollar starts no formula."""
    return text.replace("$", r"\$")

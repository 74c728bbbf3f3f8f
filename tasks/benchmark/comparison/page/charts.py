"""What the page's script draws: points, spreads and texts, as plain data. All rounding of texts is done here."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.benchmark.attention.plan import direction
from tasks.benchmark.attention.rows import measured
from tasks.benchmark.comparison.marks import Mark
from tasks.benchmark.comparison.numbers import (
    COSTS,
    Cell,
    Entry,
    Quality,
    Report,
    groups,
    number,
    seeds,
    three_digits,
    trouble,
)
from tasks.benchmark.comparison.page.leaderboard import baseline_text
from tasks.benchmark.comparison.scaling import crossing_point, curve_names
from tasks.benchmark.measure import MEBIBYTE


def chart_data(report: Report, marks: Mapping[str, Mark]) -> dict[str, Any]:
    """All that the charts need."""
    rows = (report.get("scaling") or {}).get("rows") or []
    return {
        "marks": {str(mark.number): mark.path for mark in marks.values()},
        "costs": {key: {"title": cost.title, "unit": cost.unit} for key, cost in COSTS.items()},
        "panels": [_panel(entry, cells, marks) for entry, cells in groups(report)],
        "curves": [
            _curve(report, name, causal, marks)
            for causal in sorted({row["causal"] for row in rows})
            for name in curve_names(rows, causal)
        ],
    }


def _panel(entry: Entry, cells: Sequence[Cell], marks: Mapping[str, Mark]) -> dict[str, Any]:
    quality, baseline = Quality.of(entry, cells), number(entry, "baseline", "value")
    arrow = "higher" if entry["higher_is_better"] else "lower"
    facts = [f"{entry['label']}, {arrow} is better", baseline_text(entry, cells)]
    return {
        "task": entry["task"],
        "inputs": entry["inputs"],
        "title": entry["title"],
        "axis": f"{entry['label']}{' (%)' if quality.unit else ''}",
        "facts": " · ".join(fact for fact in facts if fact),
        "baseline": None if baseline is None else baseline * quality.scale,
        "points": [_point(quality, cell, marks[cell["attention"]]) for cell in cells],
    }


def _point(quality: Quality, cell: Cell, mark: Mark) -> dict[str, Any]:
    """One cell; its tooltip is ready but for the cost."""
    costs, texts = {}, {}
    for key, cost in COSTS.items():
        found = cost.estimate(cell)
        costs[key] = found if found is not None and found.value > 0 else None
        if found is not None:
            spread = f" [{three_digits(found.low)}, {three_digits(found.high)}]" if found.low < found.high else ""
            texts[key] = f"{cost.title}: {three_digits(found.value)}{spread} {cost.unit}"
    return {
        "name": cell["attention"],
        "mark": mark.number,
        "quality": quality.estimate(cell),
        "qualityText": f"{quality.summary(cell)}, {seeds(cell)}",
        "costs": costs,
        "costTexts": texts,
        "trouble": trouble(cell),
    }


def _curve(report: Report, name: str, causal: bool, marks: Mapping[str, Mark]) -> dict[str, Any]:
    scaling = report["scaling"]
    crossings = [
        {"length": point[0], "time": 1e3 * point[1], "text": f"{name} from {point[0]:,.0f}"}
        for crossover in scaling.get("crossovers") or ()
        if (crossover["attention"], crossover["causal"]) == (name, causal)
        and (point := crossing_point(scaling["rows"], crossover))
    ]
    return {
        "name": name,
        "mark": marks[name].number,
        "direction": direction(causal),
        "crossings": crossings,
        "points": [_length(length, row) for length, row in sorted(measured(scaling["rows"], name, causal).items())],
    }


def _length(length: int, row: Mapping[str, Any]) -> dict[str, Any]:
    seconds, peak = number(row, "seconds"), number(row, "peak_bytes")
    ends = [1e3 * end for end in row.get("quartiles") or () if number(end) is not None]
    point: dict[str, Any] = {"length": length, "time": None, "memory": None}
    if seconds is not None and seconds > 0:
        low, high = ends if len(ends) == 2 else (1e3 * seconds, 1e3 * seconds)
        point["time"] = [1e3 * seconds, low, high]
        point["timeText"] = f"{three_digits(1e3 * seconds)} ms [{three_digits(low)}, {three_digits(high)}]"
    if peak is not None and peak > 0:
        point["memory"] = [peak / MEBIBYTE] * 3
        point["memoryText"] = f"{three_digits(peak / MEBIBYTE)} MiB"
    return point

"""The transfer as text: a table for each mode, and CSV."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks import tables
from tasks.benchmark.comparison.numbers import NONE, Quality, groups, number
from tasks.benchmark.transfer.plan import MODES
from tasks.benchmark.transfer.results import word_of
from tasks.trainings import FAILED

TITLES = {
    "trained": "the encoder starts as another task's and learns on",
    "frozen": "the encoder starts as another task's and stays as it is",
}
_QUALITIES = ("mean", "std", "least", "greatest")
_CELL = ("entry", "start", "mode", "status", "reason")
_VERDICTS = {
    "verdict": "quality",
    "verdict_beside_trained": "beside_trained",
    "verdict_beside_shuffled": "beside_shuffled",
}
_SPREADS = {
    "quality": ("quality",),
    "shuffled": ("shuffled", "quality"),
    **{name: (name,) for name in ("gain", "gain_to_trained", "gain_to_shuffled")},
}


def columns(report: Mapping[str, Any]) -> list[str]:
    """Heads of a table: where the encoder comes from."""
    return ["to", "baseline", "random start", *(f"from {entry['name']}" for entry in report["entries"])]


def rows(report: Mapping[str, Any], mode: str) -> list[list[str]]:
    """Two rows for each target: of each start the quality and what it does beside a random one; the same shuffled."""
    made: list[list[str]] = []
    for entry, cells in groups(report):
        quality = Quality.of(entry, cells)
        own = [cell for cell in cells if cell["mode"] == mode]
        baseline = f"{entry['baseline']['label']} {quality.text(number(entry, 'baseline', 'value'))}"
        learnt = [_text(cell, quality, word_of(cell)) for cell in own]
        made.append([f"{entry['name']} ({entry['label']})", baseline, *learnt])
        if any(cell["shuffled"] for cell in own):
            shuffled = [_text(cell["shuffled"], quality) if cell["shuffled"] else "" for cell in own]
            made.append([f"{entry['name']}, shuffled", "", *shuffled])
    return made


def _text(cell: Mapping[str, Any], quality: Quality, word: str = "") -> str:
    if cell["quality"] is None:
        return cell["status"] if cell["status"] == FAILED else NONE
    parts = [quality.summary(cell), word, "" if cell["status"] != FAILED else "a seed failed"]
    return ", ".join(part for part in parts if part)


def as_markdown(report: Mapping[str, Any]) -> str:
    """Both tables and the notes."""
    done = report["encoder"]
    encoder = ", ".join(f"{name} {value}" for name, value in done.items())
    epochs = "; ".join(
        f"{entry['name']} {entry['source']['epochs']} as a source, {entry['epochs']} as a target"
        for entry in report["entries"]
    )
    parts = [
        "# Transfer between tasks\n",
        f"One encoder: {encoder}. Epochs: {epochs}. Seeds: {report['options']['seeds']}.\n",
    ]
    for mode in MODES:
        lines = rows(report, mode)
        parts.append(tables.as_markdown(f"## {mode.capitalize()}: {TITLES[mode]}", columns(report), lines, []).rstrip())
        parts.append("")
    parts += ["## Notes\n", *(f"- {line}" for line in report["notes"])]
    parts.append(f"\n{report['date']}, commit {report['commit']}, trained on {'; '.join(report['trained_on'])};")
    parts.append(f"`{' '.join(report['command'])}`")
    return "\n".join(parts) + "\n"


def as_csv(report: Mapping[str, Any]) -> str:
    """One row a cell; a gain is positive where it is better than the random start, in the metric's unit."""
    heads = [*_CELL, "metric", "higher_is_better", "epochs", "seeds", *_VERDICTS]
    heads += [f"{name}_{part}" for name in _SPREADS for part in _QUALITIES]
    made: list[Sequence[object]] = []
    for entry, cells in groups(report):
        for cell in cells:
            row: list[object] = [*(cell[name] for name in _CELL)]
            row += [entry["metric"], entry["higher_is_better"], entry["epochs"]]
            row += [sum(run["quality"] is not None for run in cell["runs"])]
            row += [cell["verdict"][name] for name in _VERDICTS.values()]
            row += [number(cell, *path, part) for path in _SPREADS.values() for part in _QUALITIES]
            made.append([*row, cell["command"]])
    return tables.as_csv([*heads, "command"], made)

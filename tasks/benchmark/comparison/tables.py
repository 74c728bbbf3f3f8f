"""The comparison as text: CSV of cells and of runs, markdown, the console's rows."""

import json
from collections.abc import Iterator, Sequence

from tasks import tables
from tasks.benchmark.comparison.numbers import (
    MEASURES,
    TIMES,
    Cell,
    Entry,
    Quality,
    Report,
    best_measures,
    best_qualities,
    groups,
    number,
    seeds,
    standing,
    trouble,
)

COLUMNS = ("inputs", "attention", "quality", "parameters", "MFLOPs", "samples/s", "ms", "MiB", "against full")
"""Heads of the console's table."""

_QUARTILES = ("median", "first_quartile", "third_quartile")
_QUALITIES = ("mean", "std", "least", "greatest")
_ENTRY = ("title", "config", "tokens", "metric", "label", "higher_is_better", "epochs")
_CELL = ("entry", "task", "inputs", "attention", "status", "reason")
_NUMBERS = {
    **{f"quality_{name}": ("quality", name) for name in _QUALITIES},
    **{name: (name,) for name in ("parameters", "parameters_to_full", "flops", "train_flops")},
    **{
        "_".join(path if path[-1] != "median" else path[:-1]): path
        for start in (
            ("train", "samples_per_second"),
            ("train", "milliseconds"),
            ("train", "full_time_by_its"),
            ("inference", "milliseconds"),
            ("inference", "full_time_by_its"),
        )
        for path in ((*start, quartile) for quartile in _QUARTILES)
    },
    **{name: (name,) for name in ("peak_bytes", "memory_to_full")},
}
"""A cell's numbers by the column's name; a column without a quartile's name is the median."""

_RUN = ("seed", "status", "reason", "quality", "seconds", "command", "folder")


def as_csv(report: Report) -> str:
    """One row a cell; numbers as measured, in the units that their names say."""
    columns = (*_CELL, *_ENTRY, "baseline", "settings", "seeds", *_NUMBERS, "cost_reason")
    verdicts = ("quality", "time", "memory", "text")
    rows = []
    for entry, cells in groups(report):
        for cell in cells:
            verdict = cell.get("verdict") or {}
            rows.append(
                [
                    *(cell.get(name) for name in _CELL),
                    *(entry.get(name) for name in _ENTRY),
                    number(entry, "baseline", "value"),
                    json.dumps(cell.get("settings") or {}),
                    sum(number(run, "quality") is not None for run in cell["runs"]),
                    *(number(cell, *path) for path in _NUMBERS.values()),
                    cell.get("cost_reason"),
                    *(verdict.get(name) for name in verdicts),
                    cell.get("command"),
                ]
            )
    return tables.as_csv((*columns, *(f"verdict_{name}" for name in verdicts), "command"), rows)


def as_runs_csv(report: Report) -> str:
    """One row a run; the metrics of its test in one column, as JSON."""
    rows = [
        [
            *(cell.get(name) for name in _CELL[:4]),
            entry["metric"],
            *(run.get(name) for name in _RUN),
            json.dumps(run.get("metrics") or {}),
        ]
        for entry, cells in groups(report)
        for cell in cells
        for run in cell["runs"]
    ]
    return tables.as_csv((*_CELL[:4], "metric", *_RUN, "metrics"), rows)


def as_markdown(report: Report) -> str:
    """A table for each task and inputs, the best in bold, and then the notes."""
    parts = ["# Attention mechanisms across modalities\n"]
    for entry, cells in groups(report):
        quality = f"{entry['label']} {'↑' if entry['higher_is_better'] else '↓'}"
        heads = ("attention", quality, *(_head(measure.title, measure.unit) for measure in MEASURES), "against full")
        rows = [[_plain(text) for text in row] for row in _rows(entry, cells, bold=True)]
        baseline = f"; {entry['baseline']['label']} {_baseline(entry, cells)}" if entry.get("baseline") else ""
        title = f"## {entry['task']}, {entry['inputs']} inputs: {entry['title']}{baseline}"
        parts.append(tables.as_markdown(_plain(title), [_plain(head) for head in heads], rows, ()).rstrip() + "\n")
    notes = [_plain(note) for note in report.get("notes") or ()]
    parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in (*notes, *_origin(report))) + "\n")
    return "\n".join(parts)


def console_rows(report: Report) -> Iterator[list[str]]:
    """The rows under `COLUMNS`, the best marked with a star."""
    for entry, cells in groups(report):
        for name, quality, *others in _rows(entry, cells, bold=False):
            yield [f"{entry['task']} {entry['inputs']}", name, f"{entry['label']} {quality}", *others]


def _rows(entry: Entry, cells: Sequence[Cell], *, bold: bool) -> Iterator[list[str]]:
    quality, best = Quality.of(entry, cells), best_qualities(entry, cells)
    bests = [best_measures(measure, cells) for measure in MEASURES]

    def marked(text: str, is_best: bool) -> str:
        return (f"**{text}**" if bold else f"{text} *") if is_best else text

    for cell in cells:
        name = cell["attention"]
        summary = marked(quality.summary(cell), name in best)
        values = [marked(measure.text(cell), name in best) for measure, best in zip(MEASURES, bests, strict=True)]
        shares = [measure.share_text(cell) for measure in MEASURES]
        if bold:
            values = [f"{value} ({share})" if share else value for value, share in zip(values, shares, strict=True)]
            summary += f" ({seeds(cell)})"
        yield [name, summary, *values, _verdict(cell)]


def _verdict(cell: Cell) -> str:
    said = ", ".join(f"{what} {word}" for what, word in standing(cell)) or "reference"
    missing = trouble(cell)
    return f"{said}; {missing}" if missing and cell["status"] == "done" else missing or said


def _head(title: str, unit: str) -> str:
    return f"{title} ({unit})" if unit else title


def _baseline(entry: Entry, cells: Sequence[Cell]) -> str:
    return Quality.of(entry, cells).text(number(entry, "baseline", "value"))


def _origin(report: Report) -> list[str]:
    machine = ", ".join(f"{name} {value}" for name, value in (report.get("machine") or {}).items())
    return [
        "mean ± standard deviation over the seeds; times are medians; the best of a column in bold; "
        f"{TIMES}: against full attention, times inside the same rounds",
        _plain("trained on " + ("; ".join(report.get("trained_on") or ()) or "no machine yet")),
        _plain(f"{machine}; commit {report.get('commit')}; {report.get('date')}"),
        _plain(f"`{' '.join(report.get('command') or ())}`"),
    ]


def _plain(text: str) -> str:
    """Text that breaks neither a table nor a page."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")

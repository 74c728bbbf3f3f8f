"""Every cell's commands and runs, closed until asked for."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tasks.benchmark.comparison.marks import Mark
from tasks.benchmark.comparison.numbers import NONE, Cell, Entry, Quality, Report, groups, number, seeds, trouble
from tasks.benchmark.comparison.page.markup import Markup, element, join
from tasks.benchmark.comparison.page.symbols import anchor, command, drawn, of


def cells_section(report: Report, marks: Mapping[str, Mark]) -> Markup:
    """A heading for each entry, and below it its cells."""
    return join(
        element("section", _heading(entry), *(_cell(entry, cells, cell, marks) for cell in cells), **of(entry))
        for entry, cells in groups(report)
    )


def _heading(entry: Entry) -> Markup:
    said = f"{entry['task']}, {entry['inputs']} inputs, {entry['config']}"
    return element("h3", entry["title"], " ", element("span", said, class_="quiet"))


def _cell(entry: Entry, cells: Sequence[Cell], cell: Cell, marks: Mapping[str, Mark]) -> Markup:
    quality = Quality.of(entry, cells)
    known = number(cell, "quality", "mean") is not None
    value = f"{entry['label']} {quality.summary(cell)}, {seeds(cell)}" if known else str(cell["status"])
    said = element("span", value, class_="quiet")
    summary = element("summary", drawn(marks[cell["attention"]]), cell["attention"], " ", said)
    reason, verdict = trouble(cell), (cell.get("verdict") or {}).get("text")
    settings = ", ".join(f"{key} = {value}" for key, value in (cell.get("settings") or {}).items())
    return element(
        "details",
        summary,
        element("p", reason, class_="reason") if reason else None,
        element("p", verdict) if verdict else None,
        element("p", f"Settings: {settings}", class_="quiet") if settings else None,
        command(cell.get("command")),
        _runs(entry, quality, cell["runs"]) if cell["runs"] else None,
        id=anchor(cell),
    )


def _runs(entry: Entry, quality: Quality, runs: Iterable[Mapping[str, Any]]) -> Markup:
    heads = ("seed", entry["label"], "seconds", "state")
    head = element("thead", element("tr", *(element("th", text, scope="col") for text in heads)))
    table = element("table", head, element("tbody", *(_run(quality, run, len(heads)) for run in runs)), class_="runs")
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label="runs")


def _run(quality: Quality, run: Mapping[str, Any], width: int) -> Markup:
    """A run's numbers, and under them its command, folder and other metrics."""
    seconds, is_done = number(run, "seconds"), run["status"] == "done"
    state = "done" if is_done else f"{run['status']}: {run.get('reason') or 'no reason is known'}"
    numbers = element(
        "tr",
        element("th", str(run["seed"]), scope="row"),
        element("td", quality.text(number(run, "quality"))),
        element("td", NONE if seconds is None else f"{seconds:,.0f}"),
        element("td", state, class_=None if is_done else "reason"),
    )
    metrics = run.get("metrics") or {}
    facts = [f"folder {run['folder']}" if run.get("folder") else None]
    facts += [f"{name} {number(metrics, name):.5g}" for name in metrics if number(metrics, name) is not None]
    said = element("small", " · ".join(fact for fact in facts if fact))
    return join([numbers, element("tr", element("td", command(run.get("command")), said, colspan=width))])

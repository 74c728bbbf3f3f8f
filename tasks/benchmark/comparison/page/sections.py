"""The page's sections of text: where a mechanism loses, what crosses where, and what all of it was made with."""

from collections.abc import Mapping
from typing import Any

from tasks.benchmark.attention.plan import direction
from tasks.benchmark.attention.rows import MEASURED
from tasks.benchmark.comparison.marks import Mark
from tasks.benchmark.comparison.numbers import Cell, Entry, Report, groups, loses, number
from tasks.benchmark.comparison.page.markup import Markup, element, join
from tasks.benchmark.comparison.page.symbols import anchor, command, count, drawn, of, radios
from tasks.benchmark.comparison.scaling import crossover_text


def losses_section(report: Report, marks: Mapping[str, Mark]) -> Markup:
    """For each mechanism, the cells in which it is behind full attention; then the notes that say something else."""
    parts, said = [], set()
    held = [(entry, cell) for entry, cells in groups(report) for cell in cells if cell["attention"] != "full"]
    for name in dict.fromkeys(cell["attention"] for _, cell in held):
        own = [(entry, cell) for entry, cell in held if cell["attention"] == name]
        lost = [(entry, cell, _sentence(cell)) for entry, cell in own if loses(cell)]
        said |= {text for _, _, text in lost}
        summary = f"behind full attention in {len(lost)} of {count(len(own), 'cell')}"
        heading = element("h3", drawn(marks[name]), name, " ", element("span", summary, class_="quiet"))
        items = [
            element("li", _link(entry, cell), f" ({cell['inputs']}): {text}", **of(entry)) for entry, cell, text in lost
        ]
        parts.append(element("article", heading, element("ul", *items) if items else None))
    notes = [note for note in report.get("notes") or () if not note.endswith(tuple(said))]
    listed = element("ul", *(element("li", note) for note in notes), class_="notes")
    nothing = element("p", "Nothing is held against full attention yet.")
    grid = element("div", *parts, class_="losses") if parts else nothing
    return join([grid, element("h3", "Notes") if notes else None, listed if notes else None])


def _link(entry: Entry, cell: Cell) -> Markup:
    return element("a", entry["title"], href=f"#{anchor(cell)}")


def _sentence(cell: Cell) -> str:
    return (cell.get("verdict") or {}).get("text") or "behind full attention"


def scaling_section(report: Report) -> Markup:
    """The charts' places, and in words what crosses where and what was not measured."""
    scaling = report.get("scaling") or {}
    rows = scaling.get("rows") or []
    if not any(row["status"] == MEASURED for row in rows):
        reason = scaling.get("note") or "it was not asked for, or the run has not come to it yet"
        return element("p", f"Time and memory against length were not measured: {reason}.", class_="quiet")
    directions = [direction(causal) for causal in sorted({row["causal"] for row in rows})]
    choice = radios("direction", "Direction", {name: name for name in directions})
    places = [element("div", class_="chart", data_scaling=what) for what in ("time", "memory")]
    crossings = [element("li", crossover_text(each)) for each in scaling.get("crossovers") or ()]
    absent = [
        element("li", f"{row['attention']}, {direction(row['causal'])}, length {row['length']}: {_absence(row)}")
        for row in rows
        if row["status"] != MEASURED
    ]
    charts = element("div", choice, element("div", *places, class_="pair"), class_="needs-script", hidden=True)
    listed = [element("h3", "Crossovers"), element("ul", *crossings, id="crossovers")] if crossings else []
    left_out = element("summary", f"Not measured: {count(len(absent), 'point')}")
    return join(
        [
            charts,
            *listed,
            element("details", left_out, element("ul", *absent)) if absent else None,
            element("p", scaling["note"], class_="quiet") if scaling.get("note") else None,
        ]
    )


def _absence(row: Mapping[str, Any]) -> str:
    return f"{row['status']}, {row.get('reason') or 'no reason is known'}"


def origin_section(report: Report) -> Markup:
    """Date, commit, command, machine, versions, options and what the comparison itself took."""
    seconds = report.get("seconds") or {}
    share = number(seconds, "overhead")
    facts = {
        "date": report.get("date"),
        "commit": report.get("commit") or "unknown",
        **(report.get("machine") or {}),
        "trained on": "; ".join(report.get("trained_on") or ()),
        "wall time": _duration(number(seconds, "wall")),
        "of it trainings": _duration(number(seconds, "trainings")),
        "overhead": None if share is None else f"{100 * share:.1f} % of the trainings' time",
        "format": f"{report.get('schema')}, version {report.get('version')}",
    }
    options = report.get("options") or {}
    return join(
        [
            command(" ".join(report.get("command") or ())),
            _terms(facts),
            element("details", element("summary", "All options"), _terms(options)) if options else None,
        ]
    )


def _terms(facts: Mapping[str, Any]) -> Markup:
    pairs = [
        element("div", element("dt", name), element("dd", str(value)))
        for name, value in facts.items()
        if value is not None and value != ""
    ]
    return element("dl", *pairs)


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    if seconds < 600:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 36000 else f"{seconds / 3600:,.1f} h"

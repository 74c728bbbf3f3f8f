"""The page's sections of text: where a mechanism loses, what crosses where, every cell's runs, and the origin."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tasks.benchmark.attention.plan import direction
from tasks.benchmark.attention.rows import MEASURED
from tasks.benchmark.comparison.marks import Mark
from tasks.benchmark.comparison.numbers import NONE, Cell, Entry, Quality, Report, groups, loses, number, seeds, trouble
from tasks.benchmark.comparison.page.markup import Markup, element, join
from tasks.benchmark.comparison.page.symbols import anchor, count, drawn, of
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
            element(
                "li", element("a", entry["title"], href=f"#{anchor(cell)}"), f" ({cell['inputs']}): {text}", **of(entry)
            )
            for entry, cell, text in lost
        ]
        parts.append(element("article", heading, element("ul", *items) if items else None))
    notes = [note for note in report.get("notes") or () if note not in said]
    listed = element("ul", *(element("li", note) for note in notes), class_="notes")
    grid = (
        element("div", *parts, class_="losses")
        if parts
        else element("p", "Nothing is held against full attention yet.")
    )
    return join([grid, element("h3", "Notes") if notes else None, listed if notes else None])


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
    return join(
        [
            element("div", choice, element("div", *places, class_="pair"), class_="needs-script", hidden=True),
            element("h3", "Crossovers") if crossings else None,
            element("ul", *crossings, id="crossovers") if crossings else None,
            element(
                "details", element("summary", f"Not measured: {count(len(absent), 'point')}"), element("ul", *absent)
            )
            if absent
            else None,
            element("p", scaling["note"], class_="quiet") if scaling.get("note") else None,
        ]
    )


def _absence(row: Mapping[str, Any]) -> str:
    return f"{row['status']}, {row.get('reason') or 'no reason is known'}"


def radios(name: str, title: str, options: Mapping[str, str]) -> Markup:
    """A choice of one; the first is chosen."""
    buttons = [
        element(
            "label",
            element("input", type="radio", name=name, value=value, checked=number == 0, autocomplete="off"),
            element("span", text),
        )
        for number, (value, text) in enumerate(options.items())
    ]
    return element("fieldset", element("legend", title), *buttons, class_="choice")


def cells_section(report: Report, marks: Mapping[str, Mark]) -> Markup:
    """Every cell's commands, runs and verdict, closed until asked for."""
    return join(
        element(
            "section",
            element(
                "h3",
                entry["title"],
                " ",
                element("span", f"{entry['task']}, {entry['inputs']}, {entry['config']}", class_="quiet"),
            ),
            *(_cell(entry, cells, cell, marks) for cell in cells),
            **of(entry),
        )
        for entry, cells in groups(report)
    )


def _cell(entry: Entry, cells: Sequence[Cell], cell: Cell, marks: Mapping[str, Mark]) -> Markup:
    quality = Quality.of(entry, cells)
    known = number(cell, "quality", "mean") is not None
    value = f"{entry['label']} {quality.summary(cell)}, {seeds(cell)}" if known else str(cell["status"])
    summary = element(
        "summary", drawn(marks[cell["attention"]]), cell["attention"], " ", element("span", value, class_="quiet")
    )
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


def command(text: str | None) -> Markup | None:
    """A command that can be copied."""
    if not text:
        return None
    button = element("button", "Copy", type="button", class_="copy", hidden=True)
    return element("div", element("pre", element("code", text), tabindex="0"), button, class_="command")


def origin_section(report: Report) -> Markup:
    """Date, commit, command, machine, versions, options and what the comparison itself took."""
    seconds = report.get("seconds") or {}
    share = number(seconds, "overhead")
    facts = {
        "date": report.get("date"),
        "commit": report.get("commit") or "unknown",
        **(report.get("machine") or {}),
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
    return (
        f"{seconds:,.0f} s"
        if seconds < 600
        else f"{seconds / 60:,.0f} min"
        if seconds < 36000
        else f"{seconds / 3600:,.1f} h"
    )

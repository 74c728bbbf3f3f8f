"""The leaderboard: a table with a body for each entry, readable without a script."""

from collections.abc import Mapping, Sequence

from tasks.benchmark.comparison.marks import Mark
from tasks.benchmark.comparison.numbers import (
    GAINS,
    LOSSES,
    MEASURES,
    NONE,
    Cell,
    Entry,
    Measure,
    Quality,
    Report,
    best_measures,
    best_qualities,
    groups,
    number,
    seeds,
    standing,
    three_digits,
    trouble,
)
from tasks.benchmark.comparison.page.markup import Markup, element, join
from tasks.benchmark.comparison.page.symbols import anchor, drawn, of

BEST = join([element("span", "★", class_="star", aria_hidden="true"), element("span", "best: ", class_="unseen")])


def leaderboard(report: Report, marks: Mapping[str, Mark]) -> Markup:
    """The table."""
    heads = [
        _head("Attention", "", "text"),
        _head("Quality", "mean ± std", "number"),
        *(
            _head(measure.title.capitalize() if measure.title != "FLOPs" else "FLOPs", measure.unit, "number")
            for measure in MEASURES
        ),
        _head("Against full", "wins less losses", "number"),
    ]
    bodies = [_body(entry, cells, marks, len(heads)) for entry, cells in groups(report)]
    caption = element("caption", "Quality and cost of each mechanism on each task", class_="unseen")
    return element("table", caption, element("thead", element("tr", *heads)), *bodies, id="board")


def _head(title: str, unit: str, kind: str) -> Markup:
    button = element("button", title, element("small", unit) if unit else None, type="button")
    return element("th", button, scope="col", aria_sort="none", data_kind=kind, class_=kind)


def _body(entry: Entry, cells: Sequence[Cell], marks: Mapping[str, Mark], width: int) -> Markup:
    best = [best_qualities(entry, cells), *(best_measures(measure, cells) for measure in MEASURES)]
    rows = [_row(entry, cells, cell, marks, best) for cell in cells]
    if not rows:
        rows = [element("tr", element("td", "no cell yet", colspan=width))]
    heading = element("tr", element("th", _heading(entry, cells), colspan=width, scope="rowgroup"), class_="group")
    return element("tbody", heading, *rows, **of(entry))


def _heading(entry: Entry, cells: Sequence[Cell]) -> Markup:
    tokens = number(entry, "tokens")
    facts = [
        f"{entry['task']}, {entry['inputs']} inputs",
        f"{entry['label']}, {'higher' if entry['higher_is_better'] else 'lower'} is better",
        f"{three_digits(tokens)} tokens a sample" if tokens is not None else None,
        baseline_text(entry, cells),
    ]
    said = element("span", " · ".join(fact for fact in facts if fact), class_="quiet")
    return element("div", element("strong", entry["title"]), " ", said)


def baseline_text(entry: Entry, cells: Sequence[Cell]) -> str | None:
    """What quality costs nothing, with its value."""
    value = number(entry, "baseline", "value")
    return None if value is None else f"{entry['baseline']['label']} {Quality.of(entry, cells).text(value)}"


def _row(
    entry: Entry, cells: Sequence[Cell], cell: Cell, marks: Mapping[str, Mark], best: Sequence[set[str]]
) -> Markup:
    name, quality = cell["attention"], Quality.of(entry, cells)
    link = element("a", name, href=f"#{anchor(cell)}")
    settings = ", ".join(f"{key} {value}" for key, value in (cell.get("settings") or {}).items())
    count = seeds(cell) if number(cell, "quality", "mean") is not None else None
    return element(
        "tr",
        element(
            "th",
            element("span", drawn(marks[name]), link, class_="name"),
            _small(settings),
            scope="row",
            data_value=name,
        ),
        _number(number(cell, "quality", "mean"), quality.summary(cell), count, name in best[0]),
        *(
            _number(_value(measure, cell), measure.text(cell), measure.share_text(cell), name in winners)
            for measure, winners in zip(MEASURES, best[1:], strict=True)
        ),
        _verdict(cell),
        class_=None if cell["status"] == "done" else cell["status"],
    )


def _value(measure: Measure, cell: Cell) -> float | None:
    found = measure.estimate(cell)
    return None if found is None else found.value


def _number(value: float | None, text: str, below: str | None, is_best: bool) -> Markup:
    shown = element("strong", BEST, text) if is_best else text
    return element(
        "td",
        shown,
        _small(below),
        class_="number best" if is_best else "number",
        data_value="" if value is None else value,
    )


def _verdict(cell: Cell) -> Markup:
    words = standing(cell)
    score = sum((word in GAINS) - (word in LOSSES) for _, word in words)
    known = cell["status"] != "missing" and any(word != "unknown" for _, word in words)
    chips = [chip(what, word) for what, word in words] if known else []
    if not words and cell["status"] == "done":
        chips = [element("span", "reference", class_="quiet")]
    reason = trouble(cell)
    shown = [*chips, element("span", reason, class_="reason") if reason else None]
    value = score if known or not words else ""
    return element("td", element("div", *(shown if chips or reason else [NONE])), class_="verdict", data_value=value)


def chip(what: str, word: str) -> Markup:
    """One word of a verdict; a sign says what its colour says."""
    kind, sign = (
        ("gain", "+")
        if word in GAINS
        else ("loss", "−")
        if word in LOSSES
        else ("even", "?" if word == "unknown" else "=")
    )
    said = word if word in ("faster", "slower") else f"{what} {word}" if word == "unknown" else f"{word} {what}"
    return element("span", element("b", sign, aria_hidden="true"), f" {said}", class_=f"chip {kind}")


def _small(text: str | None) -> Markup | None:
    return element("small", text) if text else None

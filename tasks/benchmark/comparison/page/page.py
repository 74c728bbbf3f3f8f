"""The comparison as one HTML file that needs nothing else: no network, no library, and for the tables no script."""

from pathlib import Path
from string import Template

from tasks.benchmark.comparison.marks import Mark, marks_of
from tasks.benchmark.comparison.numbers import COSTS, Report
from tasks.benchmark.comparison.page.charts import chart_data
from tasks.benchmark.comparison.page.leaderboard import leaderboard
from tasks.benchmark.comparison.page.markup import Markup, as_script, element, join
from tasks.benchmark.comparison.page.runs import cells_section
from tasks.benchmark.comparison.page.sections import losses_section, origin_section, scaling_section
from tasks.benchmark.comparison.page.symbols import count, drawn, radios

_FOLDER = Path(__file__).parent
_BAD = ("failed", "missing")


def as_html(report: Report) -> str:
    """Puts the page together.

    Args:
        report: What `results.json` holds; a part of it may be missing.

    Returns:
        The page, with style, script and data inside.
    """
    rows = (report.get("scaling") or {}).get("rows") or []
    marks = marks_of([cell["attention"] for cell in report["cells"]] + [row["attention"] for row in rows])
    return Template(_read("page.html")).substitute(
        style=_colours(marks) + _read("page.css"),
        question=_question(report),
        facts=_facts(report),
        filters=join([_filter(report, "task", "Task"), _filter(report, "inputs", "Inputs")]),
        legend=_legend(marks),
        costs=radios("cost", "Cost", {key: cost.title for key, cost in COSTS.items()}),
        leaderboard=leaderboard(report, marks),
        losses=losses_section(report, marks),
        scaling=scaling_section(report),
        cells=cells_section(report, marks),
        origin=origin_section(report),
        data=as_script(chart_data(report, marks)),
        script=_read("chart.js") + _read("page.js"),
    )


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _question(report: Report) -> Markup:
    titles = [entry["title"] for entry in report["entries"]]
    names = list(dict.fromkeys(cell["attention"] for cell in report["cells"]))
    return join(
        [
            "What does an attention mechanism cost, and what does it bring, when nothing else changes? ",
            f"Here one Transformer core is trained in {count(len(titles), 'experiment')} with "
            f"{count(len(names), 'mechanism')}, and each is held against full attention in quality, time and memory.",
        ]
    )


def _facts(report: Report) -> Markup:
    """The line under the title: how complete the comparison is, and what it was measured on."""
    states = [cell["status"] for cell in report["cells"]]
    seeds = sorted({run["seed"] for cell in report["cells"] for run in cell["runs"]})
    machine = report.get("machine") or {}
    facts = [
        f"{states.count('done')} of {count(len(states), 'cell')} done",
        *(element("span", f"{states.count(state)} {state}", class_="reason") for state in _BAD if state in states),
        f"{count(len(seeds), 'seed')} ({', '.join(map(str, seeds))})" if seeds else "no run finished",
        str(machine["cpu"]) if machine.get("cpu") else "unknown hardware",
        f"commit {report.get('commit') or 'unknown'}",
        str(report.get("date") or "")[:10],
    ]
    return element("ul", *(element("li", fact) for fact in facts if fact), class_="facts")


def _filter(report: Report, key: str, title: str) -> Markup:
    values = dict.fromkeys(entry[key] for entry in report["entries"])
    options = [element("option", "all", value=""), *(element("option", value, value=value) for value in values)]
    return element("label", element("span", title), element("select", *options, data_filter=key, autocomplete="off"))


def _legend(marks: dict[str, Mark]) -> Markup:
    items = [element("li", drawn(mark), name) for name, mark in marks.items()]
    return element("ul", *items, class_="legend", aria_label="marks of the mechanisms")


def _colours(marks: dict[str, Mark]) -> str:
    """The marks' colours as variables, by day and by night."""

    def variables(**colours: str) -> str:
        return ":root{" + "".join(f"--{name.replace('_', '-')}:{colour};" for name, colour in colours.items()) + "}"

    light = variables(**{f"mark_{mark.number}": mark.light for mark in marks.values()})
    dark = variables(**{f"mark_{mark.number}": mark.dark for mark in marks.values()})
    return f"{light}\n@media (prefers-color-scheme: dark){{{dark}}}\n"

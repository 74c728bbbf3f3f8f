import copy
import csv
import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from PIL import Image

from tasks import figures
from tasks.benchmark.attention.plan import ATTENTIONS as KNOWN
from tasks.benchmark.comparison.marks import marks_of
from tasks.benchmark.comparison.numbers import (
    LATENCY,
    MEMORY,
    PARAMETERS,
    THROUGHPUT,
    TIMES,
    Quality,
    best_qualities,
    groups,
)
from tasks.benchmark.comparison.page.page import as_html
from tasks.benchmark.comparison.plot import as_pngs
from tasks.benchmark.comparison.scaling import crossing_point
from tasks.benchmark.comparison.tables import COLUMNS, as_csv, as_markdown, as_runs_csv, console_rows
from tests.tasks.benchmark.reports import ATTENTIONS, ENTRIES, HOSTILE, make_empty, make_partial, make_report

MAKERS = [make_report, make_partial, make_empty]


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def cell_of(report: dict[str, Any], entry: str, attention: str) -> dict[str, Any]:
    return next(cell for cell in report["cells"] if (cell["entry"], cell["attention"]) == (entry, attention))


def test_csv_has_every_number_of_every_cell():
    report = make_report()
    rows = read(as_csv(report))
    assert [(row["entry"], row["attention"]) for row in rows] == [(e[0], a) for e in ENTRIES for a in ATTENTIONS]
    for row, cell in zip(rows, report["cells"], strict=True):
        assert float(row["quality_mean"]) == cell["quality"]["mean"]
        assert float(row["quality_std"]) == cell["quality"]["std"]
        assert int(row["seeds"]) == 3
        assert int(row["parameters"]) == cell["parameters"]
        assert float(row["flops"]) == cell["flops"]
        assert float(row["train_milliseconds"]) == cell["train"]["milliseconds"]["median"]
        assert float(row["train_milliseconds_third_quartile"]) == cell["train"]["milliseconds"]["third_quartile"]
        assert float(row["inference_milliseconds"]) == cell["inference"]["milliseconds"]["median"]
        assert int(row["peak_bytes"]) == cell["peak_bytes"]
        assert row["verdict_time"] == cell["verdict"]["time"]
        assert row["command"] == cell["command"]
    assert rows[0]["train_full_time_by_its"] == ""
    assert float(rows[1]["train_full_time_by_its"]) == report["cells"][1]["train"]["full_time_by_its"]["median"]


def test_csv_of_a_partial_run_leaves_cells_empty_and_says_why():
    rows = {(row["entry"], row["attention"]): row for row in read(as_csv(make_partial()))}
    assert rows["vit", "sparse"]["reason"] == "seed 1: loss is nan in epoch 3"
    assert rows["vit", "sparse"]["seeds"] == "2"
    assert rows["vit", "linear"]["flops"] == rows["vit", "linear"]["train_milliseconds"] == ""
    assert rows["vit", "linear"]["cost_reason"] == "the process was killed for memory"
    assert (rows["vit", "longformer"]["seeds"], rows["vit", "longformer"]["quality_std"]) == ("1", "")
    assert (rows["asr_long", "full"]["status"], rows["asr_long", "full"]["quality_mean"]) == ("missing", "")
    assert rows["detr", f"mine.{HOSTILE}"]["verdict_text"] == f"text {HOSTILE}"


def test_csv_of_the_runs():
    report = make_partial()
    rows = read(as_runs_csv(report))
    assert len(rows) == sum(len(cell["runs"]) for cell in report["cells"])
    failed = [row for row in rows if row["status"] == "failed" and row["attention"] == "sparse"]
    assert [(row["seed"], row["reason"], row["quality"]) for row in failed] == [("1", "loss is nan in epoch 3", "")]
    first = report["cells"][0]["runs"][2]
    assert float(rows[2]["quality"]) == first["quality"]
    assert rows[2]["command"] == first["command"]


def test_markdown_marks_the_best_of_each_task_and_says_where_one_loses():
    report = make_report()
    text = as_markdown(report)
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert len(sections) == len(ENTRIES) + 1
    assert "majority class 11.2 %" in sections[0].splitlines()[0]
    lines = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in sections[1].splitlines() if "|" in line}
    assert lines["attention"][1] == "accuracy ↑"
    assert [name for name in ATTENTIONS if lines[name][1].startswith("**")] == ["longformer"]
    assert lines["full"][1] == "96.1 ± 0.3 % (3 seeds)"
    assert lines["linear"][4] == f"**3,475** (2.44{TIMES} as fast)"
    assert lines["linear"][-1] == "quality worse, time faster, memory less |"
    assert "linear attention loses in quality in every task with long inputs" in sections[-1]
    assert "commit 9a5adfa0c0de" in sections[-1]
    assert "trained on AMD EPYC 7763, 2 cores, torch 2.14.1 (96 trainings)" in sections[-1]
    wer = next(section for section in sections if section.startswith("asr, default"))
    assert "word error rate ↓" in wer
    assert "| longformer | **3.193" in wer


def test_markdown_cannot_be_broken():
    text = as_markdown(make_partial())
    assert "<img" not in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        lines = table.splitlines()
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(re.findall(r"\|", lines[1]))}
    assert "failed: seed 1: loss is nan in epoch 3" in text
    assert "missing: no run has finished" in text
    assert "cost: the process was killed for memory" in text


@pytest.mark.parametrize("make", MAKERS)
def test_console_rows_fit_their_columns(make: Callable[[], dict[str, Any]]):
    report = make()
    rows = list(console_rows(report))
    assert len(rows) == len(report["cells"])
    assert {len(row) for row in rows} == {len(COLUMNS)}
    if make is make_report:
        assert rows[0][:3] == ["vit default", "full", "accuracy 97.2 ± 0.3 %"]
        assert rows[3][2] == "accuracy 97.4 ± 0.3 % *"


def test_quality_is_written_with_the_digits_that_its_spread_needs():
    entry = {"metric": "test/mae"}

    def written(mean: float, std: float | None, metric: str = "test/mae") -> str:
        cell = {"quality": {"mean": mean, "std": std}}
        return Quality.of({"metric": metric}, [cell]).summary(cell)

    assert written(0.3211, 0.0012) == "0.321 ± 0.001"
    assert written(0.3211, 0.00042) == "0.3211 ± 0.0004"
    assert written(0.3211, None) == "0.321"
    assert written(1234.5, 3.2) == "1,234 ± 3"  # half to even
    assert written(0.97234, 0.0031, "test/accuracy") == "97.2 ± 0.3 %"
    assert written(0.97234, 0.00031, "test/accuracy") == "97.23 ± 0.03 %"
    assert written(0.5, 0.0, "test/accuracy") == "50.0 ± 0.0 %"
    assert Quality.of(entry, []).text(None) == Quality.of(entry, []).summary({"quality": None})


def test_numbers_that_are_none_or_not_finite_are_no_numbers():
    for value in (None, float("nan"), float("inf")):
        cell = {"attention": "linear", "peak_bytes": value, "memory_to_full": value}
        assert MEMORY.estimate(cell) is None
        assert MEMORY.share_text(cell) == ""
    report = make_report()
    assert PARAMETERS.share_text(cell_of(report, "vit", "linear")) == ""  # as many as full's, to two digits
    assert PARAMETERS.share_text(cell_of(report, "vit", "longformer")) == f"1.01{TIMES} as many"
    assert THROUGHPUT.text(cell_of(report, "vit", "full")) == "17,021"
    low, high = LATENCY.estimate(cell_of(report, "vit", "full"))[1:]
    assert high / low == pytest.approx(1.08 / 0.92)


def test_a_cell_with_a_failed_run_is_not_the_best():
    report = make_partial()
    entry, cells = groups(report)[2]
    means = {cell["attention"]: cell["quality"]["mean"] for cell in cells}
    assert max(means, key=means.__getitem__) == f"mine.{HOSTILE}"
    assert best_qualities(entry, cells) == {"full"}


def test_no_two_mechanisms_share_a_mark():
    names = [*KNOWN, *(f"my.Attention{number}" for number in range(20))]
    marks = marks_of(names)
    assert len({(mark.light, mark.marker) for mark in marks.values()}) == len(names)
    assert len({mark.marker for mark in list(marks.values())[:8]}) == 8
    assert marks_of(["linear"])["linear"] == marks["linear"]


def test_a_crossover_is_marked_on_the_line_between_two_lengths():
    rows = [
        {"attention": "linear", "causal": False, "status": "measured", "length": length, "seconds": seconds}
        for length, seconds in ((256, 1.0), (1024, 16.0))
    ]
    crossover = {"attention": "linear", "causal": False}
    assert crossing_point(rows, crossover | {"length": 512.0}) == (512.0, pytest.approx(4.0))
    assert crossing_point(rows, crossover | {"length": 1024.0}) == (1024.0, pytest.approx(16.0))
    assert crossing_point(rows, crossover | {"length": 256.0}) is None  # faster everywhere: nothing crosses
    assert crossing_point(rows, crossover | {"length": None}) is None
    assert crossing_point(rows, crossover | {"length": 512.0, "causal": True}) is None


def test_pictures_of_all_that_was_measured():
    report = make_report()
    report["entries"] = [entry for entry in report["entries"] if entry["task"] == "vit"]
    pictures = as_pngs(report)
    assert list(pictures) == ["quality_vit.png", "scaling.png"]
    for content in pictures.values():
        assert min(Image.open(io.BytesIO(content)).size) > 500
    assert as_pngs(make_empty()) == {}


def test_pictures_show_spread_gaps_and_crossovers(monkeypatch: pytest.MonkeyPatch):
    drawn: list[Figure] = []
    monkeypatch.setattr(figures, "as_png", lambda figure: drawn.append(figure) or b"")
    report = make_partial()
    names = list(as_pngs(report))
    assert names == [f"quality_{task}.png" for task in ("vit", "detr", "asr", "forecast")] + ["scaling.png"]
    panels = drawn[names.index("quality_vit.png")].axes
    latency = panels[2]
    bars = [made for made in latency.containers if isinstance(made, ErrorbarContainer)]
    assert len(bars) == 3  # linear has no cost
    full = cell_of(report, "vit", "full")
    across, along = bars[0].lines[2]
    low, high = along.get_segments()[0][:, 1]
    assert (low, high) == pytest.approx(
        [100 * (full["quality"]["mean"] + sign * full["quality"]["std"]) for sign in (-1, 1)]
    )
    quartiles = full["inference"]["milliseconds"]
    assert tuple(across.get_segments()[0][:, 0]) == pytest.approx(
        (quartiles["first_quartile"], quartiles["third_quartile"])
    )
    assert {panel.get_xscale() for panel in panels} == {"log"}

    drawn[names.index("quality_detr.png")].canvas.draw()  # its titles hold what formulas are made of
    scaling = drawn[names.index("scaling.png")]
    texts = [text.get_text() for panel in scaling.axes for text in panel.texts]
    assert sorted(texts) == sorted([" linear from 333", " sparse from 740", " linear from 333", " sparse from 740"])


def test_a_report_is_not_changed_by_being_shown():
    report = make_report()
    before = copy.deepcopy(report)
    as_csv(report), as_runs_csv(report), as_markdown(report), as_html(report), list(console_rows(report))
    assert report == before

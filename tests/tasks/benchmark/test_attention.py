import csv
import doctest
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.benchmark.__main__ import main
from tasks.benchmark.arguments import parser
from tasks.benchmark.attention import points
from tasks.benchmark.attention.contenders import CONTENDERS, taking_part
from tasks.benchmark.attention.floors import FLOORS
from tasks.benchmark.attention.growth import crossover, exponent
from tasks.benchmark.attention.layers import Trail, measure_layers
from tasks.benchmark.attention.limits import available_memory, foresee_seconds, is_out_of_memory, limit_memory
from tasks.benchmark.attention.plan import ATTENTIONS, OURS, Plan, Shape
from tasks.benchmark.attention.plot import as_png
from tasks.benchmark.attention.rows import CSV_COLUMNS, ratio, rows_of
from tasks.benchmark.attention.summary import summarise
from tasks.benchmark.measure import in_fresh_process
from tests.tasks.benchmark.conftest import in_fork

SIZES = ["--width=16", "--heads=2", "--window=8", "--global-tokens=1"]
QUICK = [*SIZES, "--rounds=2", "--seconds=0", "--threads=1"]
GPU = torch.cuda.is_available()


def plan(*flags: str) -> Plan:
    options = vars(parser().parse_args(["attention", *QUICK, *flags]))
    del options["command"]
    return Plan(**options)


@pytest.fixture(scope="module")
def printed_and_folder(forks: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the command printed and wrote, on sizes that say nothing about speed."""
    output = tmp_path_factory.mktemp("attention")
    with pytest.MonkeyPatch.context() as patch:
        said = (output / "said").open("w+")
        patch.setattr(sys, "stdout", said)
        assert main(["attention", "--lengths=64,16", *QUICK, "--output", str(output)]) == 0
        said.seek(0)
        return said.read(), output


@pytest.fixture(scope="module")
def folder(printed_and_folder: tuple[str, Path]) -> Path:
    return next((printed_and_folder[1] / "benchmark").iterdir())


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def test_the_last_line_names_the_run(printed_and_folder: tuple[str, Path], folder: Path):
    assert printed_and_folder[0].splitlines()[-1] == f"run: {folder}"
    assert {path.name for path in folder.iterdir()} == {f"results.{end}" for end in ("json", "csv", "md", "png")}


def test_the_report_has_a_row_for_every_attention_and_length(report: dict[str, Any]):
    assert report["version"] == 1
    assert {"date", "commit", "machine", "command", "options", "rows", "summary"} <= report.keys()
    assert {"cpu", "cores", "threads", "torch", "transformers"} <= report["machine"].keys()
    assert report["command"][3] == "attention"
    assert report["options"]["lengths"] == [16, 64]
    expected = [
        (name, length, causal)
        for causal in (False, True)
        for length in (16, 64)
        for name in ATTENTIONS
        if name != "transformers_longformer" or not causal
    ]
    assert [(row["attention"], row["length"], row["causal"]) for row in report["rows"]] == expected
    assert {row["status"] for row in report["rows"]} == {"measured"}, report["rows"]


def test_a_row_says_what_was_measured(report: dict[str, Any]):
    rows = {(row["attention"], row["length"], row["causal"]): row for row in report["rows"]}
    for (name, length, causal), row in rows.items():
        full = rows["sdpa", length, causal]
        assert len(row["rounds"]) == 1
        assert len(row["rounds"][0]) == 2
        assert row["quartiles"][0] <= row["seconds"] <= row["quartiles"][1]
        assert row["floor_seconds"] > 0
        assert row["peak_bytes"] > 4 * length * 16 * 5  # queries, keys, values, their mixture, the output
        assert row["memory_to_full"] == row["peak_bytes"] / full["peak_bytes"]
        if name == "sdpa":
            assert row["ratio_to_full"] is None
        else:
            by_hand = [a / b for a, b in zip(full["rounds"][0], row["rounds"][0], strict=True)]
            assert row["ratio_to_full"]["median"] == pytest.approx(sum(by_hand) / 2)
            assert row["ratio_to_full"]["processes"] == pytest.approx([sum(by_hand) / 2])
        assert set(row["ratio_to_peers"]) == {"band", *(["transformers_longformer"] * (not causal))} - {name}
    summary = report["summary"]
    assert summary["reference"] == "sdpa"
    assert len(summary["exponents"]) == 13
    assert len(summary["crossovers"]) == 9  # neither full attention's own nor the reference's
    assert all(each["lengths"] == [16, 64] for each in summary["exponents"])


def test_the_table_and_the_plot_are_written(report: dict[str, Any], folder: Path):
    lines = list(csv.DictReader((folder / "results.csv").open()))
    assert list(lines[0]) == list(CSV_COLUMNS)
    assert [line["attention"] for line in lines] == [row["attention"] for row in report["rows"]]
    assert float(lines[0]["seconds"]) == report["rows"][0]["seconds"]
    assert float(lines[0]["third_quartile"]) == report["rows"][0]["quartiles"][1]
    assert float(lines[0]["ratio_to_full"]) == report["rows"][0]["ratio_to_full"]["median"]
    assert (folder / "results.png").read_bytes().startswith(b"\x89PNG")
    written = (folder / "results.md").read_text()
    assert "| 64 | causal | longformer |" in written
    assert f"- {report['summary']['notes'][0]}" in written


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--lengths=12,abc"], "'abc'"),
        (["--lengths=0"], "'0'"),
        (["--lengths="], "--lengths"),
        (["--attentions=full,longfomer"], "did you mean longformer?"),
        (["--attentions=xyz"], "there are full, sparse"),
        (["--causal=maybe"], "--causal"),
        (["--width=10", "--heads=4"], "--heads 4"),
        (["--window=7"], "--window 7"),
        (["--global-tokens=-1"], "--global-tokens"),
        (["--memory-limit=much"], "--memory-limit"),
        (["--attentions=transformers_longformer", "--causal=yes"], "no causal form"),
        (["--device=gpu"], "--device"),
        pytest.param(["--device=cuda"], "finds no GPU", marks=pytest.mark.skipif(GPU, reason="there is one")),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(flags: list[str], word: str, capsys: pytest.CaptureFixture[str]):
    assert main(["attention", *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert word in err


def test_help_names_every_attention(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(["attention", "--help"])
    assert stop.value.code == 0
    assert ",".join(ATTENTIONS) in "".join(capsys.readouterr().out.split())


def test_every_name_has_a_contender():
    assert tuple(CONTENDERS) == ATTENTIONS
    assert {contender.floor for contender in CONTENDERS.values()} == set(FLOORS)


def test_what_is_not_installed_is_left_out_and_said(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("tasks.benchmark.attention.contenders.importlib.util.find_spec", lambda _: None)
    only = ["attention", "--attentions=transformers_longformer", *QUICK, "--output", str(tmp_path)]
    assert main(only) == 1
    assert "not installed" in capsys.readouterr().err
    assert taking_part(plan(), causal=False) == [name for name in ATTENTIONS if name != "transformers_longformer"]
    nothing_runs = ["--lengths=16", "--memory-limit=0", "--causal=no"]
    assert main(["attention", *nothing_runs, *QUICK, "--output", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "transformers_longformer: no rows, its package is not installed" in said
    assert "sparse bidirectional at length 16: skipped, it needs about" in said
    assert "sdpa's time by the attention's" in said


def fails_by_name(plan: Plan, shape: Shape, names: list[str], trail_path: Path) -> dict[str, Any]:
    """Stands in for `measure_layers`, in the child process: two contenders end it."""
    trail = Trail(trail_path)
    for name in names:
        trail.mark(name)
        if name == "band":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "linear":
            raise ValueError("no such\nthing")
        if name == "sparse":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
    return {
        "freed_memory_kept": True,
        "peak_bytes": dict.fromkeys(names, 8),
        "floor_seconds": {name: [1.0] for name in names},
        "seconds": {name: [float(number)] for number, name in enumerate(names, 2)},
    }


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_contender_that_fails_becomes_a_row_and_the_others_go_on(forks: None, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(points, "measure_layers", fails_by_name)
    flags = ["--lengths=16", "--causal=no", "--attentions=full,sparse,linear,longformer,sdpa,band", *QUICK]
    assert main(["attention", *flags, "--processes=2", "--output", str(tmp_path)]) == 0
    report = json.loads(next((tmp_path / "benchmark").iterdir()).joinpath("results.json").read_text())
    rows = {row["attention"]: row for row in report["rows"]}
    assert (rows["linear"]["status"], rows["linear"]["reason"]) == ("failed", "ValueError: no such")
    assert rows["band"]["status"] == "failed"
    assert "killed" in rows["band"]["reason"]
    assert rows["sparse"]["status"] == "skipped"
    assert "--memory-limit" in rows["sparse"]["reason"]
    assert rows["longformer"]["rounds"] == [[3.0], [3.0]]
    assert rows["longformer"]["ratio_to_full"]["processes"] == [4 / 3, 4 / 3]
    assert any(
        note == "band bidirectional at length 16: failed, " + rows["band"]["reason"]
        for note in report["summary"]["notes"]
    )


def measured_row(name: str, length: int, seconds: float, peak: int, full: float, *, causal: bool = False) -> dict:
    results = [
        {
            "seconds": {name: [seconds], "sdpa": [full]},
            "floor_seconds": {name: [seconds / 2], "sdpa": [seconds / 2]},
            "peak_bytes": {name: peak, "sdpa": 100},
        }
    ]
    return rows_of(Shape(length, causal, 16, 2, 8, 1), [name, "sdpa"], results, {}, "sdpa")


def test_a_limit_is_foreseen_from_shorter_sequences():
    rows = [row for length in (1024, 2048) for row in measured_row("linear", length, length / 512, 2**20 * length, 1.0)]
    shape = Shape(8192, False, 16, 2, 8, 1)
    assert points.too_much("linear", shape, rows, plan("--time-limit=17", "--memory-limit=9")) is None
    assert "about 16 s" in (points.too_much("linear", shape, rows, plan("--time-limit=15", "--memory-limit=9")) or "")
    assert "about 8 GiB" in (points.too_much("linear", shape, rows, plan("--memory-limit=7")) or "")
    band = Shape(32768, False, 256, 4, 256, 4)
    assert "GiB" in (points.too_much("band", band, [], plan("--memory-limit=4")) or "")
    assert points.too_much("sdpa", band, [], plan("--memory-limit=4")) is None


def test_seconds_are_foreseen_by_the_growth_so_far():
    assert foresee_seconds({}, 16, growth=2) is None
    assert foresee_seconds({32: 1.0}, 16, growth=2) is None
    assert foresee_seconds({16: 1.0}, 64, growth=2) == pytest.approx(16)
    assert foresee_seconds({8: 9.0, 16: 1.0, 32: 8.0}, 64, growth=1) == pytest.approx(64)


def measure(*flags: str, begin: Callable[..., dict[str, Any]] = in_fork) -> dict[str, Any]:
    chosen = plan("--attentions=full,longformer", *flags)
    return begin(measure_layers, chosen, chosen.shape(512, causal=False), chosen.attentions, Path(os.devnull))


def test_numbers_of_fewer_bytes_need_less_memory():
    """Of heads of 32 channels: beside those of 8, what a processor with bfloat16 products packs weighs more."""
    floats, halves = (measure("--width=64", f"--dtype={dtype}")["peak_bytes"] for dtype in ("float32", "bfloat16"))
    assert all(halves[name] < peak for name, peak in floats.items())


@pytest.mark.skipif(not GPU, reason="needs a GPU")
def test_on_a_gpu(tmp_path: Path, monkeypatch):
    """In processes that begin from nothing: a fork has no use of a GPU that its parent has touched."""
    monkeypatch.setattr(points, "in_fresh_process", in_fresh_process)
    result = measure("--device=cuda", "--dtype=bfloat16", begin=in_fresh_process)
    assert min(result["peak_bytes"].values()) > 512 * 16 * 2
    assert all(min(seconds) > 0 for seconds in result["seconds"].values())
    assert main(["attention", "--lengths=16", "--device=cuda", *QUICK, "--output", str(tmp_path)]) == 0


def allocates(limit: int, wanted: int) -> bool:
    torch.set_num_threads(1)
    assert limit_memory(limit)
    try:
        torch.empty(wanted, dtype=torch.uint8)
    except RuntimeError as error:
        return not is_out_of_memory(error)
    return True


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux has this limit")
def test_the_system_enforces_the_limit():
    assert not in_fresh_process(allocates, 2**28, 2**29)
    assert in_fork(allocates, 2**29, 2**28)
    assert 2**20 < available_memory() < 2**50


def test_exponent_by_hand():
    assert exponent({16: 1.0}) is None
    assert exponent({16: 1.0, 32: 8.0}) == (pytest.approx(3.0), (16, 32))
    long = {length: 5.0 * length**1.5 for length in (4096, 8192, 32768)}
    assert exponent({16: 1.0, 1024: 1e9} | long) == (pytest.approx(1.5), (4096, 8192, 32768))
    assert exponent({1024: 1.0, 4096: 16.0}) == (pytest.approx(2.0), (1024, 4096))  # one long length is no growth


def test_crossover_by_hand():
    assert crossover({}) is None
    assert crossover({16: 2.0, 64: 1.0}) is None  # faster only for a while
    assert crossover({16: 1.5, 64: 1.1}) == 16
    assert crossover({16: 0.5, 64: 2.0}) == pytest.approx(32)
    assert crossover({16: 2.0, 32: 0.5, 64: 0.25, 256: 4.0, 512: 8.0}) == pytest.approx(128)


def test_ratios_are_taken_inside_the_rounds():
    got = ratio([[2.0, 6.0, 8.0], [1.0, 1.0, 1.0]], [[1.0, 2.0, 2.0], [2.0, 2.0, 2.0]])
    assert got["processes"] == [3.0, 0.5]
    assert got["median"] == 1.25


def test_the_summary_says_where_a_mechanism_loses():
    rows = [*measured_row("linear", 16, 4.0, 200, 2.0), *measured_row("linear", 64, 1.0, 100, 2.0)]
    rows += measured_row("sparse", 16, 1.0, 50, 4.0, causal=True)
    summary = summarise(rows, "sdpa")
    assert summary["notes"][0] == (
        "linear bidirectional: time grows with length^-1.00 (lengths 16, 64); faster than sdpa from length 32 on; "
        "2.00 times its floor at length 64"
    )
    assert "linear bidirectional loses to sdpa in time at 16 (2.000x its time)" in summary["notes"]
    assert "linear bidirectional loses to sdpa in memory at 16 (2.000x its peak)" in summary["notes"]
    assert "sparse causal loses nowhere" in summary["notes"]
    where = {each["attention"]: each["where"] for each in summary["crossovers"]}
    assert where == {"linear": "from length 32 on", "sparse": "at every measured length"}


def test_the_plot_shows_what_was_measured():
    assert as_png(measured_row("linear", 16, 3.0, 200, 2.0)) != as_png(measured_row("linear", 16, 1.0, 200, 2.0))


def test_ours_come_first():
    assert ATTENTIONS[: len(OURS)] == OURS


@pytest.mark.parametrize(
    "name", ["attention.floors", "attention.growth", "attention.limits", "attention.peers", "report"]
)
def test_doctests(name: str):
    result = doctest.testmod(importlib.import_module(f"tasks.benchmark.{name}"))
    assert result.attempted > 0
    assert result.failed == 0

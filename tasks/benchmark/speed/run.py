"""`python -m tasks.benchmark speed`: train step and inference beside a peer's, at equal sizes."""

import json
import statistics
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tasks.benchmark.measure import CONTENDERS, Case, in_fresh_process, measure, prepare
from tasks.benchmark.report import rounds_of, spread, written
from tasks.benchmark.speed.cases import CASES
from tasks.errors import UsageError
from tasks.machine import commit, machine
from tasks.run import make_run_folder, write_whole
from tasks.tables import as_csv, as_markdown, as_table, make_console

SCHEMA_VERSION = 1
COLUMNS = ("size", "mode", "ours", "peer", "floor", "ratio", "ours/floor", "peer/floor", "memory ours", "memory peer")
CSV_COLUMNS = ("size", "mode", "process", "round", *(f"{name}_ms" for name in CONTENDERS))


def run_speed(task: str, *, size: str, processes: int, rounds: int, seconds: float, threads: int, output: Path) -> Path:
    """Measures, prints a table, and writes `speed.json`, `speed.csv` and `speed.md` into a new run folder.

    Args:
        task: Whose networks.
        size: Name of a case, or `all`.
        processes: Fresh processes for each size and mode.
        rounds: Rounds in each process.
        seconds: Time of each contender in a round, at least.
        threads: Threads of torch.
        output: Where run folders stand.

    Returns:
        The run's folder.

    Raises:
        UsageError: If there is no such task or size.
    """
    cases = chosen_cases(task, size)
    console = make_console()
    rows = []
    freed_kept = False
    for case in cases:
        for mode in case.modes:
            results = []
            for number in range(processes):
                console.print(f"{case.name} {mode}: process {number + 1} of {processes}", style="dim")
                results.append(in_fresh_process(measure_case, task, case.name, mode, rounds, seconds, threads))
            freed_kept = all(result["freed_memory_kept"] for result in results)
            rows.append(summarise(case, mode, results))
    report = {
        "schema": SCHEMA_VERSION,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(threads, "timm", "transformers", "torchaudio"),
        "freed_memory_kept": freed_kept,
        "processes": processes,
        "rounds": rounds,
        "rows": rows,
    }
    folder = make_run_folder(output, "benchmark")
    write_whole(folder / "speed.json", json.dumps(report, indent=1) + "\n")
    write_whole(folder / "speed.csv", as_csv(CSV_COLUMNS, csv_rows(rows)))
    titles = sorted({f"{row['size']}: {row['title']}" for row in rows})
    title = "Milliseconds a step, median [first and third quartile]; memory in MiB."
    lines = [cells(row) for row in rows]
    write_whole(folder / "speed.md", as_markdown(title, COLUMNS, lines, [*titles, *notes(report)]))
    console.print(as_table(f"{task}: ms a step, median and quartiles; peak memory in MiB", COLUMNS, lines))
    for line in notes(report):
        console.print(line, soft_wrap=True)
    return folder


def chosen_cases(task: str, size: str) -> tuple[Case, ...]:
    """The cases of a task that go by a name; `all` are those that are listed."""
    if task not in CASES:
        raise UsageError(f"--task {task!r} has no benchmark; there are {', '.join(CASES)}")
    every = CASES[task]()
    cases = tuple(case for case in every if case.name == size or (size == "all" and case.listed))
    if not cases:
        names = [case.name for case in every if case.listed]
        raise UsageError(f"--size {size!r} is not a size of {task}; there are {', '.join(names)} and all")
    return cases


def measure_case(task: str, size: str, mode: str, rounds: int, seconds: float, threads: int) -> dict[str, Any]:
    """What a child process does."""
    freed_kept = prepare(threads)
    (case,) = chosen_cases(task, size)
    return {"freed_memory_kept": freed_kept, **measure(case, mode, rounds, seconds)}


def summarise(case: Case, mode: str, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Makes a row of what the processes measured.

    A ratio is taken inside each round, where both sides met the same machine; its quartiles are over all rounds of
    all processes. `ratio` is the peer's time by ours: above 1, ours is faster.
    """

    def pooled(value: Callable[[dict[str, float]], float]) -> dict[str, float]:
        return spread([value(each) for result in results for each in rounds_of(result["times_ms"])])

    return {
        "size": case.name,
        "title": case.title,
        "mode": mode,
        "peer": case.peer_name,
        "milliseconds": {name: pooled(lambda each, name=name: each[name]) for name in CONTENDERS},
        "ratio": pooled(lambda each: each["peer"] / each["ours"]),
        "share": {
            name: pooled(lambda each, name=name: each[name] / each["ours"])
            for name in results[0]["times_ms"].keys() - set(CONTENDERS)
        },
        "ratio_of_processes": [
            statistics.median(each["peer"] / each["ours"] for each in rounds_of(result["times_ms"]))
            for result in results
        ],
        "over_floor": {name: pooled(lambda each, name=name: each[name] / each["floor"]) for name in ("ours", "peer")},
        "peak_mib": {
            name: statistics.median(result["peak_mib"][name] for result in results) for name in ("ours", "peer")
        },
        "gflop": {
            "floor": sum(product.flops(mode) for product in case.products) / 1e9,
            "ours": sum(product.flops(mode) for product in case.ours_products or case.products) / 1e9,
        },
        "square_gflops": spread([value for result in results for value in result["square_gflops"]]),
        "rounds_ms": [result["times_ms"] for result in results],
    }


def cells(row: dict[str, Any]) -> list[str]:
    """A row's text, in the order of `COLUMNS`."""
    return [
        row["size"],
        row["mode"],
        *(written(row["milliseconds"][name], 1) for name in CONTENDERS),
        written(row["ratio"], 3),
        *(f"{row['over_floor'][name]['median']:.2f}" for name in ("ours", "peer")),
        *(f"{row['peak_mib'][name]:.1f}" for name in ("ours", "peer")),
    ]


def notes(report: dict[str, Any]) -> list[str]:
    """What a reader of the table has to know, first of all where ours loses."""
    lines = []
    for row in report["rows"]:
        where = f"{row['size']} {row['mode']}"
        if row["ratio"]["median"] < 1:
            lines.append(f"{row['peer']} is faster at {where}: {1 / row['ratio']['median']:.3f}x ours")
        if row["peak_mib"]["ours"] > row["peak_mib"]["peer"]:
            lines.append(
                f"{row['peer']} needs less memory at {where}: {row['peak_mib']['peer']:.1f} MiB, "
                f"ours {row['peak_mib']['ours']:.1f} MiB"
            )
        lines += [f"{name} takes {share['median']:.1%} of our step at {where}" for name, share in row["share"].items()]
        processes = ", ".join(f"{ratio:.3f}" for ratio in row["ratio_of_processes"])
        spared = 1 - row["gflop"]["ours"] / row["gflop"]["floor"]
        lines.append(
            f"{where}: ratio in each process {processes}; 2048^3 product {row['square_gflops']['median']:.0f} "
            f"GFLOP/s; floor {row['gflop']['floor']:.2f} GFLOP, ours computes {spared:.1%} fewer"
        )
    machine = report["machine"]
    lines += [
        "ratio: the peer's time by ours, inside each round. floor: the bare matrix products of the whole network.",
        "fp32; both sides in the same process, with the same fused AdamW; "
        + (
            "freed memory is kept (tasks/memory.py), for both sides."
            if report["freed_memory_kept"]
            else "the allocator's own settings, for both sides."
        ),
        f"{report['processes']} processes x {report['rounds']} rounds, {machine['threads']} threads, "
        f"{machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}, timm {machine['timm']}, "
        f"transformers {machine['transformers']}, torchaudio {machine['torchaudio']}, "
        f"commit {report['commit']}, {report['date']}",
    ]
    return lines


def csv_rows(rows: Sequence[dict[str, Any]]) -> list[list[object]]:
    """Every single time: one line a round."""
    return [
        [row["size"], row["mode"], process, number, *(f"{each[name]:.3f}" for name in CONTENDERS)]
        for row in rows
        for process, times in enumerate(row["rounds_ms"], 1)
        for number, each in enumerate(rounds_of(times), 1)
    ]

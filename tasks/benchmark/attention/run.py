"""`python -m tasks.benchmark attention`: time and memory of every mechanism against length, forward and backward."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from tasks.benchmark.attention.contenders import CONTENDERS, is_installed, taking_part
from tasks.benchmark.attention.limits import available_gpu_memory, available_memory
from tasks.benchmark.attention.plan import CAUSAL, GIBIBYTE, Plan
from tasks.benchmark.attention.plot import as_png
from tasks.benchmark.attention.points import measure_point
from tasks.benchmark.attention.rows import COLUMNS, CSV_COLUMNS, Row, cells, csv_rows, rows_of
from tasks.benchmark.attention.summary import summarise
from tasks.errors import TaskError, UsageError
from tasks.machine import commit, machine
from tasks.run import make_run_folder, write_whole
from tasks.tables import as_csv, as_markdown, as_table, make_console

SCHEMA_VERSION = 1


def run_attention(plan: Plan, command: Sequence[str] = ()) -> Path:
    """Measures, prints a table, and writes `results.json`, `.csv`, `.md` and `.png` into a new run folder.

    Args:
        plan: The command's options.
        command: The command line, for the report.

    Returns:
        The run's folder.

    Raises:
        TaskError: If nobody can take part.
        UsageError: If there is no such device.
    """
    if plan.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no GPU here that it could use; leave it out to measure on the CPU")
    if plan.memory_limit is None:
        available = available_memory() if plan.device == "cpu" else available_gpu_memory()
        plan = replace(plan, memory_limit=0.8 * available / GIBIBYTE)
    missing = [name for name in plan.attentions if not is_installed(CONTENDERS[name].package)]
    if len(missing) == len(plan.attentions):
        raise TaskError(f"--attentions {','.join(missing)}: not installed; pip install -e '.[test]' brings it")
    console = make_console()
    reference = "sdpa" if "sdpa" in plan.attentions else "full"
    rows: list[Row] = []
    freed_kept = True
    for causal in CAUSAL[plan.causal]:
        for length in plan.lengths:
            shape, names = plan.shape(length, causal), taking_part(plan, causal)
            results, refused = measure_point(plan, shape, names, rows, console)
            freed_kept = freed_kept and all(result["freed_memory_kept"] for result in results)
            rows += rows_of(shape, names, results, refused, reference)
    report = {
        "version": SCHEMA_VERSION,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(plan.threads, "transformers") | _gpu(plan),
        "freed_memory_kept": freed_kept,
        "command": ["python", "-m", "tasks.benchmark", *command],
        "options": asdict(plan) | {"output": str(plan.output)},
        "rows": rows,
        "summary": summarise(rows, reference),
    }
    report["summary"]["notes"] += [f"{name}: no rows, its package is not installed" for name in missing]
    report["summary"]["notes"] += _legend(report)
    folder = make_run_folder(plan.output, "benchmark")
    _write(folder, report)
    console.print(as_table("ms of one forward and backward pass; peak memory", COLUMNS, map(cells, rows)))
    for line in report["summary"]["notes"]:
        console.print(line, soft_wrap=True)
    return folder


def _gpu(plan: Plan) -> dict[str, str]:
    return {"gpu": torch.cuda.get_device_name()} if plan.device == "cuda" else {}


def _legend(report: dict[str, Any]) -> list[str]:
    """What the numbers mean and what they were measured on."""
    options, machine, reference = report["options"], report["machine"], report["summary"]["reference"]
    processors = ", ".join(machine[name] for name in ("gpu", "cpu") if name in machine)
    return [
        f"one layer of width {options['width']} with its projections, {options['heads']} heads, batch 1, "
        f"{options['dtype']}; Longformer's window {options['window']} with {options['global_tokens']} global tokens; "
        "sparse's stride is the root of the length",
        f"full's time by its: {reference}'s time by the attention's, inside each round; above 1, the attention is "
        "faster; median [first and third quartile]"
        if reference in options["attentions"]
        else "neither sdpa nor full was asked for: nothing is held against full attention",
        "floor: the bare matrix products of the projections and of the pattern's pairs; peak: gradients and "
        "activations of one forward and backward pass",
        f"{options['processes']} processes x {options['rounds']} rounds, {machine['threads']} threads, "
        f"{processors}, {machine['cores']} cores, torch {machine['torch']}, "
        f"transformers {machine['transformers']}, commit {report['commit']}, {report['date']}; "
        + ("freed memory is kept (tasks/memory.py)" if report["freed_memory_kept"] else "the allocator's own settings"),
    ]


def _write(folder: Path, report: dict[str, Any]) -> None:
    rows = report["rows"]
    title = "Milliseconds of one forward and backward pass, median [first and third quartile]; peak memory in MiB."
    notes = report["summary"]["notes"]
    write_whole(folder / "results.json", json.dumps(report, indent=1) + "\n")
    write_whole(folder / "results.csv", as_csv(CSV_COLUMNS, csv_rows(rows)))
    write_whole(folder / "results.md", as_markdown(title, COLUMNS, map(cells, rows), notes))
    write_whole(folder / "results.png", as_png(rows))

"""`python -m tasks.benchmark transfer`: each task's encoder as the start of each other's, at equal steps."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from tasks.benchmark.comparison.quality import trained_on
from tasks.benchmark.comparison.run import tell
from tasks.benchmark.transfer import tables
from tasks.benchmark.transfer.plan import ENCODER, MODES, Plan
from tasks.benchmark.transfer.results import cells_of, entries_of, notes_of
from tasks.errors import Interrupted
from tasks.machine import commit, machine
from tasks.progress import Progress
from tasks.resume import begin, go_on
from tasks.run import write_whole
from tasks.tables import as_table, make_console
from tasks.trainings import Finished, recorded, run_trainings

SCHEMA, VERSION = "onecore.transfer", 2
_TRAININGS = "trainings"


def run_transfer(plan: Plan, output: Path, resume: Path | None = None, command: Sequence[str] = ()) -> Path:
    """Trains the sources, then each target from each start, and writes the results into a run's folder.

    Args:
        plan: The command's options; a resumed run has its own.
        output: Where run folders stand.
        resume: The folder of a run to go on with.
        command: The command line, for the report.

    Returns:
        The run's folder: `results.json`, `.csv`, `.md`, and a folder for each training.

    Raises:
        UsageError: If `resume` is no such folder.
        Interrupted: If Ctrl-C has stopped it.
    """
    console = make_console()
    where: Any = {"program": "tasks.benchmark transfer", "console": console}
    begun = begin("transfer", plan, command, output=output, **where) if resume is None else go_on(resume, Plan, **where)
    folder, plan, command, again = begun
    trainings, start = plan.trainings(), time.monotonic()
    try:
        with Progress(console, {each.name: each.weight for each in trainings}, plan.jobs) as progress:
            finished = run_trainings(
                trainings, folder / _TRAININGS, progress=progress, jobs=plan.jobs, threads=plan.threads, told=tell
            )
    except KeyboardInterrupt:
        _write(plan, folder, recorded(trainings, folder / _TRAININGS), command, time.monotonic() - start)
        raise Interrupted(f"stopped, {folder} has what is finished; go on with: {again}") from None
    report = _write(plan, folder, finished, command, time.monotonic() - start)
    for mode in MODES:
        console.print(as_table(tables.TITLES[mode], tables.columns(report), tables.rows(report, mode)))
    for line in report["notes"]:
        console.print(line, soft_wrap=True)
    return folder


def _write(
    plan: Plan, folder: Path, finished: Mapping[str, Finished], command: Sequence[str], wall: float
) -> dict[str, Any]:
    entries, cells = entries_of(plan, finished), cells_of(plan, finished)
    report = {
        "schema": SCHEMA,
        "version": VERSION,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(plan.threads, "pytorch-lightning"),
        "command": ["python", "-m", "tasks.benchmark", *command],
        "options": asdict(plan),
        "trained_on": trained_on(finished),
        "encoder": ENCODER,
        "seconds": {"wall": wall, "trainings": sum(each.seconds for each in finished.values())},
        "entries": entries,
        "cells": cells,
        "notes": notes_of(plan, entries, cells),
    }
    write_whole(folder / "results.json", json.dumps(report, indent=1) + "\n")
    write_whole(folder / "results.csv", tables.as_csv(report))
    write_whole(folder / "results.md", tables.as_markdown(report))
    return report

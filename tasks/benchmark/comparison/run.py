"""`python -m tasks.benchmark run`: every task with every attention, at equal parameters, steps and order of data."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from tasks.benchmark.comparison import plot, tables
from tasks.benchmark.comparison.cost import measure_costs
from tasks.benchmark.comparison.experiments import METRICS, Experiment
from tasks.benchmark.comparison.lengths import LENGTHS, measure_length, scaling_of
from tasks.benchmark.comparison.page.page import as_html
from tasks.benchmark.comparison.plan import Plan
from tasks.benchmark.comparison.quality import trained_on
from tasks.benchmark.comparison.results import cells_of, entries_of, notes_of
from tasks.benchmark.measure import in_fresh_process
from tasks.errors import Interrupted, TaskError, first_line
from tasks.machine import commit, machine
from tasks.progress import Progress
from tasks.resume import begin, go_on
from tasks.run import write_whole
from tasks.tables import as_table, make_console
from tasks.trainings import Finished, Training, recorded, run_trainings

SCHEMA, VERSION = "onecore.comparison", 1
_TRAININGS = "trainings"


def run_comparison(plan: Plan, output: Path, resume: Path | None = None, command: Sequence[str] = ()) -> Path:
    """Measures what all mechanisms cost, trains with each, and writes the results into a run's folder.

    Args:
        plan: The command's options; a resumed run has its own.
        output: Where run folders stand.
        resume: The folder of a run to go on with.
        command: The command line, for the report.

    Returns:
        The run's folder: `results.json`, `.csv`, `.md`, `.html`, plots, and a folder for each training.

    Raises:
        UsageError: If `resume` is no such folder.
        Interrupted: If Ctrl-C has stopped it.
    """
    console = make_console()
    plan.experiments()
    where: Any = {"program": "tasks.benchmark run", "console": console}
    begun = (
        begin("benchmark", plan, command, output=output, **where) if resume is None else go_on(resume, Plan, **where)
    )
    folder, plan, command, again = begun
    state = State()
    try:
        _work(plan, folder, console, state)
    except KeyboardInterrupt:
        state.finished = recorded(plan.trainings(), folder / _TRAININGS)
        _write(plan, folder, state, command)
        raise Interrupted(f"stopped, {folder} has what is finished; go on with: {again}") from None
    report = _write(plan, folder, state, command)
    console.print(as_table("quality, and cost beside full attention's", tables.COLUMNS, tables.console_rows(report)))
    for line in report["notes"]:
        console.print(line, soft_wrap=True)
    return folder


@dataclass
class State:
    """What is finished so far.

    Attributes:
        costs: Of each experiment what each process measured.
        scaling: Rows of the layers, by length.
        finished: What became of each training, by name.
        wall: Seconds since the start.
        overhead: The benchmark's own processor time, as a share of its trainings'; both since the start.
    """

    costs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    scaling: list[dict[str, Any]] = field(default_factory=list)
    finished: dict[str, Finished] = field(default_factory=dict)
    wall: float = 0.0
    overhead: float | None = None


def _work(plan: Plan, folder: Path, console: Console, state: State) -> None:
    """Costs first, while nothing else runs; then the trainings, several at a time."""
    start = time.monotonic()
    trainings = plan.trainings()
    measurements = [(each, number) for each in plan.experiments() for number in range(plan.processes)]
    lengths = LENGTHS[:-3] if plan.quick else LENGTHS
    weights = {_cost_name(*each): 40.0 * plan.jobs for each in measurements}
    weights |= {f"length {length}": 15.0 * plan.jobs for length in lengths}
    weights |= {each.name: each.weight for each in trainings}
    with Progress(console, weights, plan.jobs) as progress:
        for experiment, number in measurements:
            found = _remembered(
                folder / "costs" / f"{experiment.name}.{number}.json",
                _cost_name(experiment, number),
                progress,
                lambda experiment=experiment, number=number: _measure(plan, experiment, thorough=number == 0),
            )
            state.costs.setdefault(experiment.name, []).append(found)
        for length in lengths:
            state.scaling += _remembered(
                folder / "scaling" / f"{length}.json",
                f"length {length}",
                progress,
                lambda length=length: measure_length(plan, length, state.scaling, console),
            )
        before, earlier = time.process_time(), recorded(trainings, folder / _TRAININGS)
        state.finished = run_trainings(trainings, folder / _TRAININGS, progress=progress, jobs=plan.jobs, told=tell)
        spent = sum(each.cpu_seconds for name, each in state.finished.items() if name not in earlier)
        state.overhead = (time.process_time() - before) / spent if spent else None
    state.wall = time.monotonic() - start


def tell(training: Training, ended: Finished) -> str:
    """How a training ended, in a few words."""
    metric = METRICS[training.task]
    return f"{metric.label} {ended.metrics[metric.name]:.4g}"


def _cost_name(experiment: Experiment, number: int) -> str:
    return f"cost of {experiment.name}, process {number + 1}"


def _remembered(file: Path, name: str, progress: Progress, measure: Any) -> Any:
    """What an earlier session has measured, else what is measured now; a failure is not remembered."""
    if file.is_file():
        saved = json.loads(file.read_text(encoding="utf-8"))
        progress.skip(name, saved["seconds"])
        return saved["found"]
    progress.start(name)
    progress.refresh()
    start = time.monotonic()
    failure = None
    try:
        found = measure()
    except (TaskError, ValueError, OSError, BrokenProcessPool) as error:
        found, failure = {}, first_line(error)
    seconds = time.monotonic() - start
    if failure is None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps({"seconds": seconds, "found": found}) + "\n")
    progress.finish(name, seconds, "failed" if failure else "done", failure or "")
    return found


def _measure(plan: Plan, experiment: Experiment, *, thorough: bool) -> dict[str, Any]:
    args = experiment.args(plan.attentions[0], epochs=1, data_root=Path(plan.data_root))
    options = {"rounds": plan.rounds, "seconds": 0.1 if plan.quick else 0.3, "threads": plan.threads}
    return in_fresh_process(_measure_costs, experiment, plan.attentions, args, options | {"thorough": thorough})


def _measure_costs(
    experiment: Experiment, attentions: Sequence[str], args: Sequence[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """What a child process does; quietly."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    return measure_costs(experiment, attentions, args, **options)


def _write(plan: Plan, folder: Path, state: State, command: Sequence[str]) -> dict[str, Any]:
    entries = entries_of(plan, state.finished, state.costs)
    cells = cells_of(plan, state.finished, state.costs)
    report = {
        "schema": SCHEMA,
        "version": VERSION,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(plan.threads, "pytorch-lightning", "torchvision", "torchaudio"),
        "command": ["python", "-m", "tasks.benchmark", *command],
        "options": asdict(plan),
        "seconds": {
            "wall": state.wall,
            "trainings": sum(each.seconds for each in state.finished.values()),
            "overhead": state.overhead,
        },
        "trained_on": trained_on(state.finished),
        "entries": entries,
        "cells": cells,
        "scaling": scaling_of(plan, state.scaling),
        "notes": notes_of(plan, entries, cells),
    }
    write_whole(folder / "results.json", json.dumps(report, indent=1) + "\n")
    write_whole(folder / "results.csv", tables.as_csv(report))
    write_whole(folder / "runs.csv", tables.as_runs_csv(report))
    write_whole(folder / "results.md", tables.as_markdown(report))
    write_whole(folder / "results.html", as_html(report))
    for name, picture in plot.as_pngs(report).items():
        write_whole(folder / name, picture)
    return report

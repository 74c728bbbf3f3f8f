"""`python -m tasks.TASK sweep`: trains with other values of arguments, and finds the best by validation."""

import difflib
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tasks.base import TaskModule
from tasks.errors import Interrupted, TaskError, UsageError
from tasks.progress import Progress
from tasks.resume import Begun, begin, go_on
from tasks.run import write_whole
from tasks.sweep.arguments import parse, parser
from tasks.sweep.experiment import check_space, read_fit
from tasks.sweep.plan import CONFIG, Plan, as_arguments
from tasks.sweep.results import Trial, csv_of, ranked, table_of, trials_of
from tasks.sweep.samplers import Sampler, Tried, size_of
from tasks.sweep.space import Values, parse_space
from tasks.tables import make_console
from tasks.trainings import Finished, Training, recorded, run_trainings

_VALUES, _TRIALS, _BEST = "values.json", "trials.csv", "best.yaml"


def sweep(module_class: type[TaskModule], default: Path, args: Sequence[str]) -> str:
    """Runs the command and returns its last line, `best: FILE`.

    Its folder has `trials.csv`, `best.yaml`, the whole experiment with the best trial's values, which `fit --config`
    takes, and a folder for each trial.

    Args:
        module_class: The task's module.
        default: The experiment of `fit` without `--config`.
        args: What follows `sweep`.

    Raises:
        UsageError: If the command cannot be understood; nothing was trained then.
        Interrupted: If Ctrl-C has stopped it.
        TaskError: If no trial has ended well.
    """
    console = make_console()
    begun = _begin(module_class, default, args, console)
    plan, folder = begun.plan, begun.folder
    try:
        trials = _search(plan, folder, plan.make_sampler(), console)
    except KeyboardInterrupt:
        values = _proposed(folder)
        trials = trials_of(plan, values, recorded(_trainings(plan, values), folder))
        _write(module_class, begun, trials)
        raise Interrupted(f"stopped, {folder} has what is finished; go on with: {begun.again}") from None
    best = _write(module_class, begun, trials)
    failed = [each for each in trials if each.reason is not None]
    if best is None:
        raise TaskError(f"none of {len(trials)} trials ended well ({folder / _TRIALS}); the first: {failed[0].reason}")
    console.print(table_of(plan, trials))
    if failed:
        console.print(f"{len(failed)} of {len(trials)} trials failed ({folder / _TRIALS}): {failed[0].reason}")
    return f"best: {best}"


def _begin(module_class: type[TaskModule], default: Path, args: Sequence[str], console: Any) -> Begun[Plan]:
    task = module_class.task
    where: Any = {"program": f"tasks.{task} sweep", "console": console}
    options, of_fit = parse(task, args)
    if options.resume is not None:
        begun = go_on(options.resume, Plan, **where)
        if begun.plan.task != task:
            raise UsageError(f"--resume {options.resume} is a sweep of python -m tasks.{begun.plan.task}")
        return begun
    space = parse_space(options.space)
    if options.trials > (size := size_of(space)):
        raise UsageError(f"--trials={options.trials}: the space has no more than {size:.0f} combinations")
    _refuse_misspelt(task, of_fit)
    config = read_fit(module_class, default, of_fit)
    plan = Plan.of(task, options, config)
    plan.make_sampler()
    check_space(module_class, default, of_fit, space)
    begun = begin("sweep", plan, ["sweep", *args], output=options.runs, **where)
    write_whole(begun.folder / CONFIG, yaml.safe_dump(config, sort_keys=False))
    return begun


def _refuse_misspelt(task: str, args: Sequence[str]) -> None:
    """Finds options of the sweep among what is left for `fit`, whose parser would guess one of its own."""
    known = [option for action in parser(task)._actions for option in action.option_strings]
    for word in [arg.split("=")[0] for arg in args if arg.startswith("--") and "." not in arg]:
        if near := difflib.get_close_matches(word, known, n=1, cutoff=0.8):
            raise UsageError(f"there is no argument {word}; did you mean {near[0]}?")


def _search(plan: Plan, folder: Path, sampler: Sampler, console: Any) -> list[Trial]:
    """Trains what was proposed, asks for more, and so on; what was proposed before a stop comes first."""
    values, finished = _proposed(folder), dict[str, Finished]()

    def tell(_: Training, ended: Finished) -> str:
        reached = ended.metrics.get(plan.monitor)
        return "" if reached is None else f"{plan.monitor} {reached:.4g}"

    with Progress(console, {plan.name(number): 60.0 for number in range(1, plan.trials + 1)}, plan.jobs) as progress:
        while True:
            waiting = [each for each in _trainings(plan, values) if each.name not in finished]
            finished |= run_trainings(
                waiting, folder, progress=progress, jobs=plan.jobs, threads=plan.threads, told=tell
            )
            trials = trials_of(plan, values, finished)
            if len(values) >= plan.trials:
                return trials
            values += sampler([Tried(each.values, each.metric) for each in trials], plan.trials - len(values))
            write_whole(folder / _VALUES, json.dumps(values, indent=1) + "\n")


def _proposed(folder: Path) -> list[Values]:
    """The values of all trials that were begun."""
    path = folder / _VALUES
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def _trainings(plan: Plan, values: Sequence[Values]) -> list[Training]:
    return [plan.training(number, each) for number, each in enumerate(values, 1)]


def _write(module_class: type[TaskModule], begun: Begun[Plan], trials: Sequence[Trial]) -> Path | None:
    """Writes `trials.csv` and `best.yaml`; gives the latter's path, or None where no trial ended well."""
    plan, folder = begun.plan, begun.folder
    write_whole(folder / _TRIALS, csv_of(plan, trials))
    if not (best := ranked(plan, trials)[:1]):
        return None
    (trial,) = best
    base = folder / CONFIG
    config = read_fit(module_class, base, [f"--config={base}", *as_arguments(trial.values)])
    head = [
        f"trial {trial.number} of {len(trials)} by {plan.monitor} = {trial.metric}",
        f"python -m tasks.{plan.task} {shlex.join(begun.command)}",
        *as_arguments(trial.values),
    ]
    comment = "".join(f"# {' '.join(line.split())}\n" for line in head)
    write_whole(folder / _BEST, comment + yaml.safe_dump(config, sort_keys=False))
    return folder / _BEST

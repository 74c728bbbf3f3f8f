"""Trainings in processes of their own, within the test's own process, which has torch already."""

from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from tasks.launch import launch
from tasks.trainings import _Children

Run = Callable[[_Children, list[str], Path, dict[str, str]], tuple[int, float]]


def training_here(ran: list[str], *more: str) -> Run:
    """Takes the place of `_Children.run`: the same command line and log, with `more` arguments; notes whose it was."""

    def run(self: _Children, command: list[str], log: Path, environment: dict[str, str]) -> tuple[int, float]:
        ran.append(log.parent.name)
        task, args = task_and_args(command)
        with log.open("w") as output, redirect_stdout(output), redirect_stderr(output):
            return launch(task, [*args, *more]), 1.0

    return run


def task_and_args(command: Sequence[str]) -> tuple[str, list[str]]:
    """What a child's command line says after the interpreter's own words."""
    place = next(number for number, word in enumerate(command) if word.startswith("tasks."))
    return command[place].removeprefix("tasks."), list(command[place + 1 :])

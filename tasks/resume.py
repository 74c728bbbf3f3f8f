"""The options of long work that can be gone on with, kept in its run's folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from rich.console import Console

from tasks.errors import UsageError, first_line
from tasks.run import make_run_folder, write_whole

Options = TypeVar("Options")


class Begun(NamedTuple, Generic[Options]):
    """A run that begins, or goes on.

    Attributes:
        folder: Its folder.
        plan: Its options; those that it began with, if it goes on.
        command: Its command line, likewise.
        again: The command that goes on with it.
    """

    folder: Path
    plan: Options
    command: list[str]
    again: str


def begin(
    name: str,
    plan: Options,
    command: Sequence[str],
    *,
    program: str,
    output: Path,
    resume: Path | None,
    console: Console,
) -> Begun[Options]:
    """Makes a run's folder with its options, or finds that of an earlier one; says how to go on with it.

    Args:
        name: Of the folder below `output` that has the run's.
        plan: The options.
        command: The command line, for the report.
        program: What `--resume` is an option of, as `tasks.benchmark run`.
        output: Where run folders stand.
        resume: The folder of a run to go on with; None = a new one.
        console: Where it is said.

    Raises:
        UsageError: If `resume` holds no run of this command.
    """
    begun = list(command)
    if resume is None:
        folder = make_run_folder(output, name)
        write_whole(folder / "plan.json", json.dumps(asdict(plan) | {"command": begun}, indent=1) + "\n")  # pyright: ignore[reportArgumentType]
    else:
        folder = resume
        plan, begun = _read_plan(resume, type(plan))
    again = f"python -m {program} --resume {folder}"
    console.print(f"if it is stopped, go on with: {again}", style="dim", soft_wrap=True)
    return Begun(folder, plan, begun, again)


def _read_plan(folder: Path, kind: type[Options]) -> tuple[Options, list[str]]:
    try:
        saved = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        command = saved.pop("command")
        lists = {name: tuple(value) for name, value in saved.items() if isinstance(value, list)}
        return kind(**saved | lists), command
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"--resume {folder}: it holds no run of this command that could go on (plan.json): {first_line(error)}"
        ) from error

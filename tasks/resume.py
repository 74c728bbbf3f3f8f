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
    name: str, plan: Options, command: Sequence[str], *, program: str, output: Path, console: Console
) -> Begun[Options]:
    """Makes a run's folder with its options; says how to go on with it.

    Args:
        name: Of the folder below `output` that has the run's.
        plan: The options, a data class.
        command: The command line, for the report.
        program: What `--resume` is an option of, as `tasks.benchmark run`.
        output: Where run folders stand.
        console: Where it is said.
    """
    folder = make_run_folder(output, name)
    options = asdict(plan)  # pyright: ignore[reportArgumentType]
    write_whole(folder / "plan.json", json.dumps(options | {"command": list(command)}, indent=1) + "\n")
    return _begun(folder, plan, list(command), program, console)


def go_on(folder: Path, kind: type[Options], *, program: str, console: Console) -> Begun[Options]:
    """Finds the options that an earlier run began with; says how to go on with it.

    Args:
        folder: The run's folder.
        kind: The class of its options.
        program: What `--resume` is an option of.
        console: Where it is said.

    Raises:
        UsageError: If `folder` holds no run of this command.
    """
    try:
        saved = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        command = saved.pop("command")
        lists = {name: tuple(value) for name, value in saved.items() if isinstance(value, list)}
        plan = kind(**saved | lists)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"--resume {folder}: it holds no run of this command that could go on (plan.json): {first_line(error)}"
        ) from error
    return _begun(folder, plan, command, program, console)


def _begun(folder: Path, plan: Options, command: list[str], program: str, console: Console) -> Begun[Options]:
    again = f"python -m {program} --resume {folder}"
    console.print(f"if it is stopped, go on with: {again}", style="dim", soft_wrap=True)
    return Begun(folder, plan, command, again)

"""The options of a benchmark that can be gone on with, kept in its run's folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from tasks.errors import UsageError, first_line
from tasks.run import write_whole

Options = TypeVar("Options")


def save_plan(folder: Path, plan: Any, command: Sequence[str]) -> None:
    """Writes options and command line into a run's folder."""
    write_whole(folder / "plan.json", json.dumps(asdict(plan) | {"command": list(command)}, indent=1) + "\n")


def read_plan(folder: Path, kind: type[Options]) -> tuple[Options, list[str]]:
    """The options of a run, and its command line.

    Raises:
        UsageError: If the folder holds no run of this command.
    """
    try:
        saved = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        command = saved.pop("command")
        lists = {name: tuple(value) for name, value in saved.items() if isinstance(value, list)}
        return kind(**saved | lists), command
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"--resume {folder}: it holds no run of this benchmark that could go on (plan.json): {first_line(error)}"
        ) from error

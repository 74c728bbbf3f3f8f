"""Hands a task's command to what carries it out."""

import logging
from pathlib import Path

from lightning_fabric.utilities.exceptions import MisconfigurationException

from tasks.base import TaskModule
from tasks.check_data import check_data
from tasks.cli import TaskCLI
from tasks.errors import UsageError
from tasks.memory import keep_freed_memory
from tasks.processes import is_first
from tasks.trainer_parts import quiet_lightning


def run(module_class: type[TaskModule], default_config: Path, args: list[str]) -> str:
    """Runs one command and returns its last line: `run: <folder>`, or where its results are.

    Args:
        module_class: The task's module.
        default_config: The experiment of `fit` without `--config`.
        args: The command line, command first.
    """
    if args[0] == "check-data":
        return check_data(default_config, args[1:])
    keep_freed_memory()
    quiet_lightning()
    ours, handler = logging.getLogger("tasks"), logging.StreamHandler()  # what weights to start from leave fresh
    ours.setLevel(logging.INFO if is_first() else logging.WARNING)
    ours.addHandler(handler)
    try:
        if args[0] == "sweep":
            from tasks.sweep.run import sweep

            return sweep(module_class, default_config, args[1:])
        return TaskCLI(module_class, default_config, args).last_line
    except MisconfigurationException as error:  # as Lightning calls arguments of its trainer that cannot be
        raise UsageError(" ".join(str(error).split())) from error
    finally:
        ours.removeHandler(handler)

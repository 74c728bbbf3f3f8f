"""The commands that use a checkpoint, of every task and of one alone."""

from collections.abc import Callable
from pathlib import Path

from tasks.base import TaskModule
from tasks.export import export


def commands_of(module_class: type[TaskModule]) -> dict[str, Callable[..., Path]]:
    """Each a function of a trainer, the module and the data module, as `TaskModule.commands` says."""
    return {**module_class.commands, "export": export}

"""The experiment that a sweep varies, as `fit` would read it."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tasks.base import TaskModule
from tasks.cli import TaskCLI
from tasks.errors import UsageError
from tasks.sweep.space import Dimension


class _ParsedFit(TaskCLI):
    """Reads the arguments of `fit`; makes and trains nothing."""

    def instantiate_classes(self) -> None:
        """Leaves the configuration as it is."""

    def _run_subcommand(self, subcommand: str) -> None:
        pass


def read_fit(module_class: type[TaskModule], default: Path, args: Sequence[str]) -> dict[str, Any]:
    """The whole configuration that `fit ARGS` has, as plain values; what the data will set is left out.

    Args:
        module_class: The task's module.
        default: The experiment of `fit` without `--config`.
        args: What follows `fit`.

    Raises:
        UsageError: If they cannot be understood; one line with the nearest valid name.
    """
    parsed = _ParsedFit(module_class, default, ["fit", *args])
    return parsed.as_plain(parsed.config["fit"], skip_link_targets=True)


def check_space(module_class: type[TaskModule], default: Path, args: Sequence[str], space: Sequence[Dimension]) -> None:
    """Refuses, before anything is trained, names that are no arguments and values that an argument does not take.

    Args:
        module_class: The task's module.
        default: The experiment of `fit` without `--config`.
        args: What follows `fit`.
        space: What is varied.

    Raises:
        UsageError: If there is one; one line.
    """
    columns = [[f"--{each.name}={value}" for value in each.samples] for each in space]
    for row in zip_longest(*columns):
        given = [word or column[0] for word, column in zip(row, columns, strict=True)]
        try:
            read_fit(module_class, default, [*args, *given])
        except UsageError as error:
            raise _blame(module_class, default, args, given) or UsageError(f"--space: {error}") from error


def _blame(
    module_class: type[TaskModule], default: Path, args: Sequence[str], given: Sequence[str]
) -> UsageError | None:
    """What is wrong with the first of some values that an argument does not take; None if only all together fail."""
    for word in given:
        try:
            read_fit(module_class, default, [*args, word])
        except UsageError as error:
            return UsageError(f"--space {word.removeprefix('--')}: {error}")
    return None

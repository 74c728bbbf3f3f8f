"""What command lines have in common that are not a task's own; imports nothing heavy."""

import argparse
from collections.abc import Sequence
from itertools import pairwise
from typing import NoReturn

from tasks.errors import UsageError


class Parser(argparse.ArgumentParser):
    """Raises `UsageError` instead of leaving the process."""

    def error(self, message: str) -> NoReturn:
        """Raises what is wrong, and says where help is."""
        raise UsageError(f"{message}; see {self.prog} --help")


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def value_of(option: str, args: Sequence[str]) -> str | None:
    """The last value that a command line gives an option, as `--a=b` or `--a b`."""
    value = None
    for word, following in pairwise([*args, ""]):
        if word == option:
            value = following
        elif word.startswith(option + "="):
            value = word.removeprefix(option + "=")
    return value

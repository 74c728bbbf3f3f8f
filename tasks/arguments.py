"""What command lines have in common that are not a task's own; imports nothing heavy."""

import argparse
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

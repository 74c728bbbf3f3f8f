"""The command line of the benchmark; imports nothing heavy, so that `--help` and a mistyped flag answer at once."""

import argparse
from pathlib import Path
from typing import NoReturn

from tasks.errors import UsageError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """Makes the parser; it raises `UsageError` instead of leaving the process."""
    made = _Parser(prog="python -m tasks.benchmark", description="Compares the core with its peers.")
    speed = made.add_subparsers(dest="command", required=True, metavar="COMMAND").add_parser(
        "speed",
        help="train step and inference beside a peer's, at equal sizes",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    speed.add_argument("--task", required=True, help="whose networks: vit")
    speed.add_argument("--size", default="all", help="tiny224, small32 or all")
    speed.add_argument("--processes", type=_positive, default=3, help="fresh processes for each size and mode")
    speed.add_argument("--rounds", type=_positive, default=7, help="rounds in each process")
    speed.add_argument("--seconds", type=_seconds, default=0.5, help="least time of each contender in a round")
    speed.add_argument("--threads", type=_positive, default=2, help="threads of torch")
    speed.add_argument("--output", type=Path, default=Path("runs"), help="where run folders stand")
    return made


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 3600")
    return value

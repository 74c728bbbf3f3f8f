"""The command line of the benchmark; imports nothing heavy, so that `--help` and a mistyped flag answer at once."""

import argparse
import difflib
from pathlib import Path
from typing import NoReturn

from tasks.benchmark.attention.plan import ATTENTIONS, CAUSAL
from tasks.errors import UsageError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """Makes the parser; it raises `UsageError` instead of leaving the process."""
    made = _Parser(prog="python -m tasks.benchmark", description="Compares the core with its peers.")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shown = argparse.ArgumentDefaultsHelpFormatter
    summary = "train step and inference beside a peer's, at equal sizes"
    _add_speed(commands.add_parser("speed", help=summary, description=summary, formatter_class=shown))
    summary = "time and memory of every attention mechanism against length, forward and backward"
    _add_attention(commands.add_parser("attention", help=summary, description=summary, formatter_class=shown))
    return made


def _add_speed(speed: argparse.ArgumentParser) -> None:
    speed.add_argument("--task", required=True, help="whose networks: vit, core, detr, asr, forecast")
    speed.add_argument("--size", default="all", help="one of the task's sizes, or all")
    _add_measuring(speed, processes=3, rounds=7, seconds=0.5)


def _add_attention(attention: argparse.ArgumentParser) -> None:
    attention.add_argument(
        "--lengths", type=_lengths, default="1024,2048,4096,8192,16384,32768", help="tokens, comma-separated"
    )
    attention.add_argument("--attentions", type=_names, default=",".join(ATTENTIONS), help="names, comma-separated")
    attention.add_argument(
        "--causal", choices=tuple(CAUSAL), default="both", help="causal, not, or one after the other"
    )
    _add_measuring(attention, processes=1, rounds=5, seconds=0.2)
    attention.add_argument("--width", type=_positive, default=256, help="width of a token")
    attention.add_argument("--heads", type=_positive, default=4, help="heads of the layer")
    attention.add_argument(
        "--window", type=_positive, default=256, help="Longformer's window, half of it on each side of a token"
    )
    attention.add_argument("--global-tokens", type=_count, default=4, help="Longformer's tokens that see all")
    attention.add_argument(
        "--memory-limit",
        type=_gibibytes,
        default=argparse.SUPPRESS,
        help="GiB that a contender may need; what needs more is left out (default: 80%% of what is available)",
    )
    attention.add_argument(
        "--time-limit",
        type=_seconds,
        default=120.0,
        help="seconds that one call may take; what takes longer is left out",
    )


def _add_measuring(command: argparse.ArgumentParser, *, processes: int, rounds: int, seconds: float) -> None:
    command.add_argument("--processes", type=_positive, default=processes, help="fresh processes for each measurement")
    command.add_argument("--rounds", type=_positive, default=rounds, help="rounds in each process")
    command.add_argument("--seconds", type=_seconds, default=seconds, help="least time of each contender in a round")
    command.add_argument("--threads", type=_positive, default=2, help="threads of torch")
    command.add_argument("--output", type=Path, default=Path("runs"), help="where run folders stand")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _lengths(text: str) -> tuple[int, ...]:
    return tuple(sorted({_positive(part.strip()) for part in text.split(",")}))


def _names(text: str) -> tuple[str, ...]:
    names = dict.fromkeys(part.strip() for part in text.split(","))
    for name in names:
        if name not in ATTENTIONS:
            near = difflib.get_close_matches(name, ATTENTIONS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(ATTENTIONS)}"
            raise argparse.ArgumentTypeError(f"{name!r} is no attention; {hint}")
    return tuple(names)


def _seconds(text: str) -> float:
    return _number(text, 0, 3600, "seconds")


def _gibibytes(text: str) -> float:
    return _number(text, 0, 2**20, "GiB")


def _number(text: str, least: float, bound: float, unit: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not least <= value < bound:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of {unit} from {least} to {bound}")
    return value

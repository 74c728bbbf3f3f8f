"""The command line of the benchmark; imports nothing heavy, so that `--help` and a mistyped flag answer at once."""

import argparse
import difflib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from tasks.arguments import Parser, positive
from tasks.benchmark.attention.plan import ATTENTIONS, CAUSAL, DEVICES, DTYPES
from tasks.benchmark.comparison.experiments import EXPERIMENTS, MECHANISMS
from tasks.catalogue import TASKS


def parser() -> argparse.ArgumentParser:
    """Makes the parser; it raises `UsageError` instead of leaving the process."""
    made = Parser(prog="python -m tasks.benchmark", description="Compares the core with its peers.")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shown = argparse.ArgumentDefaultsHelpFormatter
    summary = "every task with every attention: quality and cost at equal parameters, steps and data"
    _add_run(commands.add_parser("run", help=summary, description=summary, formatter_class=shown))
    summary = "each task's encoder as the start of each other's, beside a random start"
    _add_transfer(commands.add_parser("transfer", help=summary, description=summary, formatter_class=shown))
    summary = "train step and inference beside a peer's, at equal sizes"
    _add_speed(commands.add_parser("speed", help=summary, description=summary, formatter_class=shown))
    summary = "time and memory of every attention mechanism against length, forward and backward"
    _add_attention(commands.add_parser("attention", help=summary, description=summary, formatter_class=shown))
    return made


def _add_speed(speed: argparse.ArgumentParser) -> None:
    speed.add_argument("--task", required=True, help="whose networks: vit, core, detr, asr, forecast")
    speed.add_argument("--size", default="all", help="one of the task's sizes, or all")
    _add_measuring(speed, processes=3, rounds=7, seconds=0.5)


def _add_run(run: argparse.ArgumentParser) -> None:
    run.add_argument("--data", choices=tuple(EXPERIMENTS), default="embedded", help="which data the tasks learn from")
    run.add_argument("--inputs", choices=("default", "long", "all"), default="all", help="which inputs")
    run.add_argument("--tasks", type=_tasks, default=",".join(TASKS), help="names, comma-separated")
    run.add_argument(
        "--attentions",
        type=_mechanisms,
        default=",".join(MECHANISMS),
        help="names, comma-separated; a class of your own as module.Class",
    )
    _add_optional(run, "--data-root", str, "folder of the canonical data (default: $ONECORE_DATA, or else data)")
    _add_trainings(run)
    run.add_argument("--threads", type=positive, default=2, help="threads of torch where time is measured")
    _add_optional(run, "--processes", positive, "fresh processes for each measurement (default: 3, quick 1)")
    _add_optional(run, "--rounds", positive, "rounds in each process (default: 7, quick 3)")


def _add_transfer(transfer: argparse.ArgumentParser) -> None:
    transfer.add_argument("--tasks", type=_tasks, default=",".join(TASKS), help="sources and targets, comma-separated")
    _add_trainings(transfer)
    transfer.add_argument("--threads", type=positive, default=1, help="threads of torch in each training")


def _add_trainings(command: argparse.ArgumentParser) -> None:
    command.add_argument("--quick", action="store_true", help="little training and measuring, to see that all works")
    _add_optional(command, "--seeds", positive, "trainings of each kind (default: 3, quick 1)")
    command.add_argument("--jobs", type=positive, default=2, help="trainings at once")
    command.add_argument("--output", type=Path, default=Path("runs"), help="where run folders stand")
    _add_optional(command, "--resume", Path, "folder of a run to go on with, by its own options")


def _add_optional(command: argparse.ArgumentParser, name: str, kind: Callable[[str], Any], text: str) -> None:
    """An argument that is absent where it is not given."""
    command.add_argument(name, type=kind, default=argparse.SUPPRESS, help=text)


def _add_attention(attention: argparse.ArgumentParser) -> None:
    attention.add_argument(
        "--lengths", type=_lengths, default="1024,2048,4096,8192,16384,32768", help="tokens, comma-separated"
    )
    attention.add_argument("--attentions", type=_names, default=",".join(ATTENTIONS), help="names, comma-separated")
    attention.add_argument(
        "--causal", choices=tuple(CAUSAL), default="both", help="causal, not, or one after the other"
    )
    _add_measuring(attention, processes=1, rounds=5, seconds=0.2)
    attention.add_argument("--device", choices=DEVICES, default="cpu", help="where the layers run")
    attention.add_argument("--dtype", choices=DTYPES, default="float32", help="of tokens and weights")
    attention.add_argument("--width", type=positive, default=256, help="width of a token")
    attention.add_argument("--heads", type=positive, default=4, help="heads of the layer")
    attention.add_argument(
        "--window", type=positive, default=256, help="Longformer's window, half of it on each side of a token"
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
    command.add_argument("--processes", type=positive, default=processes, help="fresh processes for each measurement")
    command.add_argument("--rounds", type=positive, default=rounds, help="rounds in each process")
    command.add_argument("--seconds", type=_seconds, default=seconds, help="least time of each contender in a round")
    command.add_argument("--threads", type=positive, default=2, help="threads of torch")
    command.add_argument("--output", type=Path, default=Path("runs"), help="where run folders stand")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _lengths(text: str) -> tuple[int, ...]:
    return tuple(sorted({positive(part.strip()) for part in text.split(",")}))


def _names(text: str) -> tuple[str, ...]:
    return _known(text, ATTENTIONS, "attention")


def _tasks(text: str) -> tuple[str, ...]:
    return _known(text, TASKS, "task")


def _mechanisms(text: str) -> tuple[str, ...]:
    own = [name for name in _parts(text) if "." in name]
    return (*_known(",".join(name for name in _parts(text) if name not in own), MECHANISMS, "attention"), *own)


def _parts(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",")))


def _known(text: str, known: Collection[str], what: str) -> tuple[str, ...]:
    for name in _parts(text):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise argparse.ArgumentTypeError(f"{name!r} is no {what}; {hint}")
    return tuple(_parts(text))


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

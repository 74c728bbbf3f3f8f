"""The options of `sweep` that are its own; all others are those of `fit`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tasks.arguments import Parser, positive
from tasks.errors import UsageError

SUMMARY = "Trains with other values of arguments, and finds the best by validation."
EXPLAINED = """\
A space is said as NAME=VALUES, once for each argument, NAME being one of `fit`'s as training.optimizer.lr:
  --space model.encoder.num_layers=2,4,6           one of these
  --space model.encoder.attention=FullAttention,LinearAttention
  --space model.encoder.dropout=0.0..0.3           a number from .. to; a whole one if both are whole
  --space training.optimizer.lr=log:1e-4..1e-2     the same, each order of magnitude being equally likely
Trials are compared by `training.monitor` on the validation part; none of them looks at the test part.
"""


def parser(task: str) -> argparse.ArgumentParser:
    """Makes the parser; it raises `UsageError` instead of leaving the process."""
    made = Parser(prog=f"python -m tasks.{task} sweep", add_help=False, allow_abbrev=False)
    made.add_argument("--trials", type=positive, metavar="N", help="How many trainings.")
    made.add_argument(
        "--space",
        action="append",
        default=[],
        metavar="NAME=VALUES",
        help="What is tried for an argument, see below; repeatable.",
    )
    made.add_argument(
        "--sampler",
        choices=("random", "tpe"),
        default="random",
        help="How values are chosen: at random, or by a tree-structured Parzen estimator from what came of the earlier "
        "trials (needs the extra `sweep`).",
    )
    made.add_argument("--jobs", type=positive, default=1, metavar="N", help="Trials at once.")
    made.add_argument(
        "--threads", type=positive, metavar="N", help="Threads of torch in each; the cores by --jobs if not given."
    )
    made.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="Where its folder is made.")
    made.add_argument("--resume", type=Path, metavar="FOLDER", help="A sweep to go on with, by its own options.")
    return made


def parse(task: str, args: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Splits a command line into the sweep's own options and the arguments of `fit`.

    Raises:
        UsageError: If an option of the sweep is wrong or missing.
    """
    options, of_fit = parser(task).parse_known_args(args)
    if options.resume is not None:
        others = [arg for arg in args if arg.startswith("-") and arg.split("=")[0] != "--resume"]
        if others:
            raise UsageError(f"--resume {options.resume} goes on by that sweep's own options; leave {others[0]} out")
        return options, []
    for name, missing in {"--trials": options.trials is None, "--space": not options.space}.items():
        if missing:
            raise UsageError(f"a sweep needs {name}; see python -m tasks.{task} sweep --help")
    for refused in ("--ckpt_path", "--print_config"):
        if any(arg.split("=")[0] == refused for arg in of_fit):
            raise UsageError(f"{refused} is no argument of a sweep, which trains anew; it belongs to fit")
    return options, of_fit

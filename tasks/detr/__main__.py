"""`python -m tasks.detr fit | validate | test | predict | explain | export | sweep | check-data`."""

import sys
from collections.abc import Sequence

from tasks.launch import SUBCOMMANDS, launch

DEFAULT = "detr/digits.yaml"


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    return launch("detr", _run, args, commands=(*SUBCOMMANDS, "check-data"))


def _run(args: list[str]) -> str:
    from tasks.cli import check_data, run
    from tasks.detr.module import DETRModule

    return check_data(DEFAULT, args) if args[0] == "check-data" else run(DETRModule, DEFAULT, args)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tasks.forecast fit | validate | test | predict | explain | export | sweep | backtest`."""

import sys
from collections.abc import Sequence

from tasks.launch import SUBCOMMANDS, launch


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    return launch("forecast", _run, args, commands=(*SUBCOMMANDS, "backtest"))


def _run(args: list[str]) -> str:
    from tasks.cli import run
    from tasks.forecast.module import ForecastModule

    return run(ForecastModule, "forecast/demand.yaml", args)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tasks.asr fit | validate | test | predict | explain | export | sweep`."""

import sys
from collections.abc import Sequence

from tasks.launch import launch


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    return launch("asr", args)


if __name__ == "__main__":
    sys.exit(main())

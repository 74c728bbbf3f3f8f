"""`python -m tasks.vit fit | validate | test | predict | explain | export | sweep`."""

import sys
from collections.abc import Sequence

from tasks.launch import launch


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    return launch("vit", _run, args)


def _run(args: list[str]) -> str:
    from tasks.cli import run
    from tasks.vit.module import ViTModule

    return run(ViTModule, "vit/mnist.yaml", args)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tasks`: the tasks, their experiments, the data on this machine, and what to type next."""

import sys
from collections.abc import Sequence

from tasks.launch import without_collection
from tasks.overview import next_commands, tasks_and_configs


def main(args: Sequence[str] | None = None) -> int:
    """Prints the overview; what needs no torch stands there at once. Returns the exit code."""
    args = list(sys.argv[1:] if args is None else args)
    if args and args[0] not in ("-h", "--help"):
        sys.stderr.write(
            f"error: {args[0]!r} is not expected; `python -m tasks` lists the tasks and takes no argument\n"
        )
        return 2
    sys.stdout.write(tasks_and_configs())
    if args:
        return 0
    sys.stdout.write(next_commands())
    sys.stdout.flush()
    with without_collection():
        from tasks.found import data_here
    sys.stdout.write(data_here())
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tasks.benchmark speed --task vit`."""

import sys
from collections.abc import Sequence

from tasks.benchmark.arguments import parser
from tasks.errors import TaskError, UsageError


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code: 2 for one that cannot be understood, 1 for other failures."""
    try:
        options = parser().parse_args(args)
        from tasks.benchmark.speed import run_speed

        folder = run_speed(
            options.task,
            size=options.size,
            processes=options.processes,
            rounds=options.rounds,
            seconds=options.seconds,
            threads=options.threads,
            output=options.output,
        )
    except UsageError as error:
        return _fail(error, 2)
    except (TaskError, OSError) as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return _fail("stopped; nothing was written", 1)
    sys.stdout.write(f"run: {folder}\n")
    return 0


def _fail(message: object, code: int) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"error: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tasks.benchmark run | transfer | speed | attention`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.benchmark.arguments import parser
from tasks.errors import TaskError, UsageError


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code: 2 for one that cannot be understood, 1 for other failures."""
    try:
        args = sys.argv[1:] if args is None else args
        folder = _run(args, **vars(parser().parse_args(args)))
    except UsageError as error:
        return _fail(error, 2)
    except (TaskError, OSError) as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return _fail("stopped; nothing was written", 1)
    sys.stdout.write(f"run: {folder}\n")
    return 0


def _run(args: Sequence[str], command: str, **options: Any) -> Path:
    if command == "speed":
        from tasks.benchmark.speed.run import run_speed

        return run_speed(**options)
    if command == "run":
        return _compare(args, **options)
    if command == "transfer":
        return _transfer(args, **options)
    from tasks.benchmark.attention.plan import Plan

    plan = Plan(**options)
    from tasks.benchmark.attention.run import run_attention

    return run_attention(plan, args)


def _compare(args: Sequence[str], output: Path, resume: Path | None = None, **options: Any) -> Path:
    _check_resume(args, resume)
    from tasks.benchmark.comparison.plan import Plan
    from tasks.benchmark.comparison.run import run_comparison

    return run_comparison(Plan.of(**options), output, resume, args)


def _transfer(args: Sequence[str], output: Path, resume: Path | None = None, **options: Any) -> Path:
    _check_resume(args, resume)
    from tasks.benchmark.transfer.plan import Plan
    from tasks.benchmark.transfer.run import run_transfer

    return run_transfer(Plan.of(**options), output, resume, args)


def _check_resume(args: Sequence[str], resume: Path | None) -> None:
    others = [arg for arg in args[1:] if arg.startswith("--") and not arg.startswith("--resume")]
    if resume is not None and others:
        raise UsageError(f"--resume {resume} goes on by that run's own options; leave {others[0]} out")


def _fail(message: object, code: int) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"error: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())

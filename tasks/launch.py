"""The way in of every task: help without waiting for torch, errors in one line, exit codes.

Nothing heavy is imported here: `--help` prints a text that is shipped (`tasks/<task>/help/*.txt`, made by
`python -m tasks.help` and held against the real parser by a test), since importing Lightning takes seconds.
"""

import difflib
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tasks.catalogue import TASKS
from tasks.errors import PeerLost, TaskError, UsageError

_PATIENCE = 10.0
"""Seconds in which the first of several processes ends, if what is wrong is wrong for all."""


def launch(task: str, args: Sequence[str] | None = None) -> int:
    """Runs a task's command line.

    Args:
        task: Its name in `TASKS`.
        args: The command line without the program's name; the process's own if not given.

    Returns:
        The exit code: 0, 2 for a command line that cannot be understood, 1 for everything else that failed.
    """
    args = list(sys.argv[1:] if args is None else args)
    if not args or args[0] in ("-h", "--help"):
        sys.stdout.write(help_text(task, "overview"))
        return 0
    commands = [path.stem for path in sorted(_help_folder(task).glob("*.txt")) if path.stem != "overview"]
    if args[0] not in commands:
        near = difflib.get_close_matches(args[0], commands, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(commands)}"
        return _fail(f"{args[0]!r} is not a command of tasks.{task}; {hint}", 2)
    if "-h" in args or "--help" in args:
        sys.stdout.write(help_text(task, args[0]))
        return 0
    return finish(lambda: _run(task, args))


def _run(task: str, args: list[str]) -> str:
    with without_collection():
        from tasks.dispatch import run

        module_class = TASKS[task].module_class
    return run(module_class, TASKS[task].config, args)


@contextmanager
def without_collection() -> Iterator[None]:
    """Where torch is imported: a fifth of the time would go into looking for garbage among what it is made of.

    What was imported stays, and is not looked through again, neither later nor at the end.
    """
    if "torch" in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def finish(run: Callable[[], str]) -> int:
    """Runs what returns the last line to print; an error is told in one line. Returns the exit code, as `launch`."""
    parent = os.getppid()
    try:
        last_line = run()
    except PeerLost:
        return 1
    except TaskError as error:
        message, code = str(error), 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        message, code = "stopped", 1
    except (ValueError, OSError) as error:
        if os.environ.get("ONECORE_DEBUG"):
            raise
        message, code = _one_line(error), 1
    else:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # of several processes the first speaks
            sys.stdout.write(last_line + "\n")
        return 0
    return code if _says_it(parent) else _fail(message, code)


def _says_it(parent: int) -> bool:
    """Whether this process was started by the first of several, and that one ends too, so that it has said why."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        return False
    end = time.monotonic() + _PATIENCE
    while os.getppid() == parent and time.monotonic() < end:
        time.sleep(0.1)
    return os.getppid() != parent


def help_text(task: str, command: str) -> str:
    """The shipped help of a command."""
    return (_help_folder(task) / f"{command}.txt").read_text(encoding="utf-8")


def _help_folder(task: str) -> Path:
    return Path(__file__).parent / task / "help"


def _one_line(error: BaseException) -> str:
    """A message without the traceback that a worker process puts before it, for which ONECORE_DEBUG=1 is there."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and "Traceback" in str(error):
        return lines[-1].split(": ", 1)[-1]
    return " ".join(line.strip() for line in lines) or type(error).__name__


def _fail(message: str, code: int) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"error: {message}\n")
    return code

"""How far long work is, and how long it will probably still take."""

import time
from collections.abc import Mapping
from types import TracebackType

import rich.progress
from rich.console import Console
from rich.text import Text


class Progress:
    """A bar on a terminal; elsewhere a line for each thing that ends.

    Args:
        console: Where it goes.
        weights: Seconds that each thing probably takes, by name; only ratios matter once some have ended.
        jobs: How many run at once.
    """

    def __init__(self, console: Console, weights: Mapping[str, float], jobs: int = 1) -> None:
        self._console, self._jobs = console, jobs
        self._weights, self._taken = dict(weights), dict[str, float]()
        self._started: dict[str, float] = {}
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(),
            rich.progress.TextColumn("{task.fields[left]}"),
            rich.progress.TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._row = self._bar.add_task("", total=sum(self._weights.values()), left="")

    def __enter__(self) -> "Progress":
        self._bar.start()
        self.refresh()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def skip(self, name: str, seconds: float) -> None:
        """Says that one had ended before, and how long it took."""
        self._taken[name] = seconds

    def start(self, name: str) -> None:
        """Says that one has begun."""
        self._started[name] = time.monotonic()

    def finish(self, name: str, seconds: float, status: str, words: str = "") -> None:
        """Says that one has ended."""
        self._started.pop(name, None)
        self._taken[name] = seconds
        line = f"{name}: {status} in {seconds:.0f} s{f', {words}' if words else ''}"
        count = f" ({len(self._taken)} of {len(self._weights)}; {self._left()})"
        self._console.print(Text(line if self._console.is_terminal else line + count, "dim"), soft_wrap=True)

    def refresh(self) -> None:
        """Draws anew; between two ends the time left goes down by itself."""
        self._bar.update(
            self._row,
            completed=sum(self._weights[name] for name in self._taken),
            description=", ".join(self._started) or f"{len(self._taken)} of {len(self._weights)}",
            left=self._left(),
        )

    def _left(self) -> str:
        return format_left(seconds_left(self._weights, self._taken, self._started, time.monotonic(), self._jobs))


def seconds_left(
    weights: Mapping[str, float],
    taken: Mapping[str, float],
    started: Mapping[str, float],
    now: float,
    jobs: int,
) -> float:
    """The time that is probably left.

    Args:
        weights: Seconds that each thing was thought to take.
        taken: Seconds that those took which have ended; they correct the others.
        started: When those began that run.
        now: The time, on the same clock.
        jobs: How many run at once.

    >>> seconds_left({"a": 10, "b": 20, "c": 10}, {"a": 20}, {"b": 0.0}, now=15.0, jobs=1)
    45.0
    """
    thought = sum(weights[name] for name in taken)
    slower = sum(taken.values()) / thought if thought else 1.0
    left = {name: weight * slower for name, weight in weights.items() if name not in taken}
    total = sum(max(0.0, seconds - (now - started[name] if name in started else 0.0)) for name, seconds in left.items())
    return total / jobs


def format_left(seconds: float) -> str:
    """In words.

    >>> format_left(50), format_left(4000)
    ('less than a minute left', '67 minutes left')
    """
    return "less than a minute left" if seconds < 60 else f"{seconds / 60:.0f} minutes left"

"""What every benchmark writes: the machine, the commit, quartiles by name, tables as markdown and CSV."""

import csv
import io
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tasks.benchmark.measure import quartiles


def make_console() -> Console:
    """Where the progress and the table go; wide enough for the table where nobody looks at a terminal."""
    return Console(width=None if sys.stdout.isatty() else 150, markup=False, highlight=False)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Quartiles by name."""
    return dict(zip(("first_quartile", "median", "third_quartile"), quartiles(values), strict=True))


def written(values: dict[str, float], digits: int) -> str:
    """A spread's text, median first.

    >>> written({"first_quartile": 1.0, "median": 2.0, "third_quartile": 4.0}, 1)
    '2.0 [1.0, 4.0]'
    """
    median, first, third = (values[name] for name in ("median", "first_quartile", "third_quartile"))
    return f"{median:.{digits}f} [{first:.{digits}f}, {third:.{digits}f}]"


def rounds_of(times: dict[str, list[float]]) -> list[dict[str, float]]:
    """Turns columns into rounds."""
    return [dict(zip(times, values, strict=True)) for values in zip(*times.values(), strict=True)]


def as_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table for the console."""
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def as_markdown(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], notes: Iterable[str]) -> str:
    """A title, a table and a list of notes."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return title + "\n\n" + "\n".join(lines) + "\n\n" + "\n".join(f"- {line}" for line in notes) + "\n"


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A header and rows; None becomes an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def machine(threads: int, *peers: str) -> dict[str, Any]:
    """What the times depend on.

    Args:
        threads: Threads of torch.
        peers: The peers' packages, whose versions count too; None stands where one is not installed.
    """
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{peer: _version(peer) for peer in peers},
    }


def computer() -> str:
    """The machine that something was trained on, in a few words."""
    return f"{_cpu()}, {os.cpu_count()} cores, torch {torch.__version__}"


def _cpu() -> str:
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        cpu = models[0].split(":", 1)[1].strip() if models else cpu
    return cpu


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

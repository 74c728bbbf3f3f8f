"""Tables on the console, as markdown and as CSV."""

import csv
import io
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


def make_console() -> Console:
    """Where the progress and the table go; wide enough for the table where nobody looks at a terminal."""
    return Console(width=None if sys.stdout.isatty() else 150, markup=False, highlight=False)


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

"""Small pieces that several parts of the page share."""

from tasks.benchmark.comparison.marks import Mark
from tasks.benchmark.comparison.numbers import Cell, Entry
from tasks.benchmark.comparison.page.markup import Markup, element


def drawn(mark: Mark) -> Markup:
    """A mark in a line of text."""
    shape = element("path", d=mark.path, style=f"fill:var(--mark-{mark.number})")
    return element("svg", shape, class_="mark", viewBox="-7 -7 14 14", aria_hidden="true")


def of(entry: Entry) -> dict[str, str]:
    """The attributes by which the page's filter knows what belongs to an entry."""
    return {"data_task": entry["task"], "data_inputs": entry["inputs"]}


def anchor(cell: Cell) -> str:
    """The id of a cell's details: letters, digits, dots and hyphens of its names."""
    text = f"cell-{cell['entry']}-{cell['attention']}"
    return "".join(letter if letter.isalnum() or letter in ".-_" else "-" for letter in text)


def count(number: int, word: str) -> str:
    """A number and its word.

    >>> count(1, "seed"), count(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{number} {word}{'' if number == 1 else 's'}"

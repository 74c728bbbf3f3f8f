"""A colour and a shape for each mechanism, the same in every picture; known to those who tell no colours apart."""

from collections.abc import Iterable
from dataclasses import dataclass

from tasks.benchmark.attention.plan import ATTENTIONS

_COLOURS = (  # on white, on black: neutral for the reference, then hues that differ in lightness too
    ("#1f2933", "#e8eaed"),
    ("#0068b8", "#62b0f5"),
    ("#c24a00", "#ff9357"),
    ("#00805f", "#3fd0a3"),
    ("#6b7280", "#9aa3ad"),
    ("#a0468a", "#e79bd0"),
    ("#5a7d0a", "#a9d44a"),
    ("#7a4fd0", "#b79cf7"),
)
_SHAPES = (  # matplotlib's letter, and the outline as an SVG path around the origin
    ("o", "M5 0A5 5 0 1 1-5 0A5 5 0 1 1 5 0Z"),
    ("s", "M-4.5-4.5H4.5V4.5H-4.5Z"),
    ("^", "M0-5.8L5.4 4.4H-5.4Z"),
    ("D", "M0-6.2L5.6 0 0 6.2-5.6 0Z"),
    ("P", "M-1.8-5.5H1.8V-1.8H5.5V1.8H1.8V5.5H-1.8V1.8H-5.5V-1.8H-1.8Z"),
    ("v", "M0 5.8L5.4-4.4H-5.4Z"),
    ("X", "M-5.2-2.6L-2.6-5.2 0-2.6 2.6-5.2 5.2-2.6 2.6 0 5.2 2.6 2.6 5.2 0 2.6-2.6 5.2-5.2 2.6-2.6 0Z"),
    ("p", "M0-5.8L5.5-1.8 3.4 4.7H-3.4L-5.5-1.8Z"),
)


@dataclass(frozen=True)
class Mark:
    """How a mechanism is drawn.

    Attributes:
        number: Which it is; its colour on the page is the CSS variable `--mark-NUMBER`.
        light: Its colour on white.
        dark: Its colour on black.
        marker: Its shape's letter in matplotlib.
        path: Its shape as an SVG path.
    """

    number: int
    light: str
    dark: str
    marker: str
    path: str


def marks_of(names: Iterable[str]) -> dict[str, Mark]:
    """Gives each name its mark; those that the house knows have theirs always, others get what is left, in order.

    >>> marks_of(["mine.Attention", "linear"])["linear"].marker
    '^'
    """
    wanted = dict.fromkeys(names)
    others = [name for name in wanted if name not in ATTENTIONS]
    marks = {name: _mark(number) for number, name in enumerate((*ATTENTIONS, *others))}
    return {name: mark for name, mark in marks.items() if name in wanted}


def _mark(number: int) -> Mark:
    light, dark = _COLOURS[number % len(_COLOURS)]
    marker, path = _SHAPES[(number + number // len(_COLOURS)) % len(_SHAPES)]  # the second time round, another pair
    return Mark(number, light, dark, marker, path)

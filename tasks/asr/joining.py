"""From the words of a long file's overlapping windows to those of the file."""

from collections.abc import Sequence
from typing import NamedTuple

from tasks.asr.alignment import Word


class Window(NamedTuple):
    """What was recognised in a stretch of a file.

    Attributes:
        start: Where it starts in the file, in seconds.
        end: Where it ends in the file, in seconds.
        words: Its words, timed from the start of the file.
    """

    start: float
    end: float
    words: list[Word]


def join_windows(windows: Sequence[Window]) -> list[Word]:
    """The words of a file, each from one window: where two overlap, the next has those behind a cut.

    A window hears badly at its edges, so the cut lies in the middle of the overlap, or in a gap there in which neither
    window has a word: the one nearest to the middle.

    Args:
        windows: In the order in which they start.
    """
    words: list[Word] = []
    ends = 0.0
    for window in windows:
        own = window.words
        if window.start < ends:
            cut = find_cut(window.start, ends, [*words, *own])
            words = [word for word in words if _middle(word) < cut]
            own = [word for word in own if _middle(word) >= cut]
        words += own
        ends = max(ends, window.end)
    return words


def find_cut(start: float, end: float, words: Sequence[Word]) -> float:
    """Where to go over from one window to the next.

    Args:
        start: Start of the overlap, in seconds.
        end: End of the overlap, in seconds.
        words: Those of both windows.

    >>> find_cut(10.0, 14.0, [Word("a", 10.0, 11.0, 1.0), Word("b", 11.5, 12.5, 1.0)])
    11.25
    """
    middle, free = (start + end) / 2, [(start, end)]
    for word in words:
        parts = [
            part for left, right in free for part in ((left, min(right, word.start)), (max(left, word.end), right))
        ]
        free = [(left, right) for left, right in parts if left < right]
    if any(left <= middle <= right for left, right in free) or not free:
        return middle
    return min((sum(gap) / 2 for gap in free), key=lambda place: abs(place - middle))


def _middle(word: Word) -> float:
    return (word.start + word.end) / 2

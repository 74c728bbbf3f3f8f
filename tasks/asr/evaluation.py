"""Measures transcripts: word and character error rates of a whole set, and its worst utterances."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tasks.processes import gathered


class Errors(NamedTuple):
    """Edits that make references of transcripts, and the size of the references.

    Attributes:
        edits: Substitutions, deletions and insertions, as few as possible.
        length: Words or characters of the references.
    """

    edits: int
    length: int

    @property
    def rate(self) -> float:
        """Edits per unit of the references; the edits themselves if the references are empty, as jiwer 4 has it."""
        return self.edits / self.length if self.length else float(self.edits)


class Edges(NamedTuple):
    """How far starts and ends of words are from where they truly are.

    Attributes:
        off: Sum of the distances, in seconds.
        number: Of starts and ends.
    """

    off: float = 0.0
    number: int = 0


class Utterance(NamedTuple):
    """One utterance's reference and transcript, and where they differ."""

    name: str
    reference: str
    transcript: str
    words: Errors
    characters: Errors
    edges: Edges = Edges()


class TranscriptEvaluation:
    """Collects references and transcripts of a whole set: its rates are sums of edits over sums of words.

    Words are what stands between spaces; further spaces count for nothing, also between characters.
    """

    def __init__(self) -> None:
        self._utterances: dict[str, Utterance] = {}

    def update(
        self,
        names: Sequence[str],
        references: Sequence[str],
        transcripts: Sequence[str],
        edges: Sequence[Edges] | None = None,
    ) -> None:
        """Takes utterances in; one that comes twice, as where processes share an uneven number of them, counts once.

        Args:
            names: What tells the utterances apart.
            references: What was said.
            transcripts: What was recognised.
            edges: How far the words of each are from their true times, if these are known.
        """
        edges = [Edges()] * len(names) if edges is None else edges
        for name, reference, transcript, each in zip(names, references, transcripts, edges, strict=True):
            self._utterances[name] = compare(name, reference, transcript)._replace(edges=each)

    def gather(self) -> list[Utterance]:
        """The utterances of all processes, by name."""
        every = {name: utterance for part in gathered(self._utterances) for name, utterance in part.items()}
        return [every[name] for name in sorted(every)]

    def reset(self) -> None:
        """Forgets all utterances."""
        self._utterances.clear()


def compare(name: str, reference: str, transcript: str) -> Utterance:
    """Counts the edits of words and of characters.

    >>> compare("1.wav", "one two", "one  too").words
    Errors(edits=1, length=2)
    """
    reference, transcript = " ".join(reference.split()), " ".join(transcript.split())
    words = Errors(edit_distance(reference.split(), transcript.split()), len(reference.split()))
    characters = Errors(edit_distance(reference, transcript), len(reference))
    return Utterance(name, reference, transcript, words, characters)


def compare_times(found: Sequence[tuple[str, float, float]], true: Sequence[tuple[str, float, float]]) -> Edges:
    """Compares the times of words that were all recognised; other words have none to compare with.

    Args:
        found: Each word, its start and its end, in seconds.
        true: The same as it was said.

    >>> compare_times([("one", 0.25, 0.5)], [("one", 0.0, 1.0)])
    Edges(off=0.75, number=2)
    """
    if [word for word, *_ in found] != [word for word, *_ in true]:
        return Edges()
    pairs = [pair for one, other in zip(found, true, strict=True) for pair in zip(one[1:], other[1:], strict=True)]
    return Edges(sum(abs(one - other) for one, other in pairs), len(pairs))


def error_rates(utterances: Sequence[Utterance]) -> dict[str, float]:
    """`wer` and `cer` of all of them together; nothing if there are none.

    `word_time_error` is the mean distance, in seconds, of words' starts and ends from the true ones, where these are
    known.
    """
    if not utterances:
        return {}
    of_words, of_characters = ([getattr(each, name) for each in utterances] for name in ("words", "characters"))
    rates = {
        name: Errors(sum(each.edits for each in errors), sum(each.length for each in errors)).rate
        for name, errors in (("wer", of_words), ("cer", of_characters))
    }
    count = sum(each.edges.number for each in utterances)
    return rates | ({"word_time_error": sum(each.edges.off for each in utterances) / count} if count else {})


def describe_worst(utterances: Sequence[Utterance], count: int = 10) -> str:
    """The utterances with the most wrong words, as text: four lines for each, and none for one without an error."""
    wrong = [each for each in utterances if each.words.edits]
    wrong.sort(key=lambda each: (-each.words.edits, -each.words.rate, each.name))
    return "\n".join(
        f"{each.name}: {each.words.edits} wrong of {each.words.length} words\n"
        f"  said:  {each.reference}\n  heard: {each.transcript}\n"
        for each in wrong[:count]
    )


def edit_distance(reference: Sequence[str], transcript: Sequence[str]) -> int:
    """The fewest substitutions, deletions and insertions that turn one sequence into the other (Levenshtein 1966).

    The usual table, a row at a time: `least[j] = min over i <= j of (best[i] + j - i)` takes the insertions in,
    which is a running minimum once j is taken off.

    >>> edit_distance("kitten", "sitting")
    3
    """
    units = {unit: number for number, unit in enumerate(dict.fromkeys([*reference, *transcript]))}
    theirs = np.array([units[unit] for unit in transcript], dtype=np.int64)
    places = np.arange(len(theirs) + 1)
    row = places
    for unit in reference:
        best = row + 1
        best[1:] = np.minimum(best[1:], row[:-1] + (theirs != units[unit]))
        row = np.minimum.accumulate(best - places) + places
    return int(row[-1])

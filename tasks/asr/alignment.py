"""When each word was said: the most probable path of CTC that gives the text (Graves et al. 2006, section 3)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torchaudio.functional import forced_align, merge_tokens

from tasks.asr.feasibility import needed_frames

HOP = 0.01
"""Seconds from one look at the loudness to the next."""
REACH = 0.3
"""Seconds by which an edge of a word moves outwards at most."""


class Word(NamedTuple):
    """A word, when it was said, and how sure that is.

    Attributes:
        text: Without spaces.
        start: In seconds.
        end: In seconds.
        confidence: Mean probability of its tokens where they are placed; None where only the text is known, and the
            times are spread over the audio.
    """

    text: str
    start: float
    end: float
    confidence: float | None

    def later(self, seconds: float) -> "Word":
        """The same word so much later."""
        return self._replace(start=self.start + seconds, end=self.end + seconds)


def align(
    log_probs: Float[Tensor, "frames outputs"],
    tokens: Sequence[int],
    vocabulary: Sequence[str],
    frame_seconds: float,
    duration: float,
) -> list[Word]:
    """Places the words of a text in the audio, from the start of their first token to the end of their last.

    Args:
        log_probs: Of the CTC head; the last output is the blank.
        tokens: The text.
        vocabulary: The text piece of each token.
        frame_seconds: From one frame to the next.
        duration: Of the audio, in seconds.

    Returns:
        The words in order; spread over the audio if it has too few frames for the tokens.
    """
    text = torch.tensor([list(tokens)], dtype=torch.long)
    if len(log_probs) < int(needed_frames(text, torch.tensor([len(tokens)]))):
        return spread([vocabulary[token] for token in tokens], duration)
    if not tokens:
        return []
    blank = log_probs.shape[1] - 1
    path, scores = forced_align(log_probs[None].float().cpu().contiguous(), text, blank=blank)
    spans = merge_tokens(path[0], scores[0].exp(), blank=blank)
    words = []
    for word, indices in split_words([vocabulary[token] for token in tokens]):
        its = [spans[index] for index in indices]
        start, end = (min(edge * frame_seconds, duration) for edge in (its[0].start, its[-1].end))
        words.append(Word(word, start, end, sum(span.score for span in its) / len(its)))
    return words


def fit_to_sound(words: Sequence[Word], audio: Float[Tensor, " samples"], sample_rate: int) -> list[Word]:
    """Moves the edges of aligned words to where their sound begins and ends.

    CTC says a token once, where it is sure of it, with blanks around, so that a word is placed within its sound. Here
    its edges move outwards while the audio is loud, by `REACH` at most and no further than half of the way to the next
    word, and inwards over silence. Loud is what lies above 0.4 of the way, in dB, from the softest tenth of the audio
    to its loudest twentieth; where these are less than 6 dB apart nothing moves.

    Args:
        words: From `align`, in order; those whose times are spread stay as they are.
        audio: What they were placed in.
        sample_rate: Of the audio, in Hz.

    >>> audio = torch.cat([torch.zeros(800), torch.ones(800), torch.zeros(800)])
    >>> [word] = fit_to_sound([Word("one", 0.14, 0.16, 0.9)], audio, 8000)
    >>> word.start, word.end
    (0.1, 0.2)
    """
    hop = round(HOP * sample_rate)
    power = audio[: len(audio) // hop * hop].unflatten(0, (-1, hop)).square().mean(1).cpu()
    if not len(power):
        return list(words)
    level = 10 * (power + 1e-8).log10()
    soft, most = level.quantile(torch.tensor([0.1, 0.95])).tolist()
    if most - soft < 6:
        return list(words)
    loud = (level > soft + 0.4 * (most - soft)).tolist()
    edges = [-math.inf, *(edge / HOP for word in words for edge in (word.start, word.end)), math.inf]
    fitted = []
    for number, word in enumerate(words):
        before, start, end, after = edges[2 * number : 2 * number + 4]
        lowest = max((before + start) / 2, start - REACH / HOP, 0)
        highest = min((end + after) / 2, end + REACH / HOP, len(loud))
        first, last = _sounding(loud, math.ceil(lowest - 1e-6), round(start), round(end), math.floor(highest + 1e-6))
        moved = word.confidence is not None and first < last
        fitted.append(word._replace(start=first * HOP, end=last * HOP) if moved else word)
    return fitted


def _sounding(loud: Sequence[bool], lowest: int, start: int, end: int, highest: int) -> tuple[int, int]:
    """The frames `start` to `end`, made longer while there is sound and shorter over silence."""
    start, end = max(start, lowest), min(end, highest)
    while lowest < start <= highest and loud[start - 1]:
        start -= 1
    while end < highest and loud[end]:
        end += 1
    while start < end and not loud[start]:
        start += 1
    while end > start and not loud[end - 1]:
        end -= 1
    return start, end


def spread(pieces: Sequence[str], duration: float) -> list[Word]:
    """The words of a text whose times nobody knows: evenly over the audio, by their letters.

    Args:
        pieces: The text piece of each token.
        duration: Of the audio, in seconds.

    >>> spread(["ab", " c"], 3.0)
    [Word(text='ab', start=0.0, end=2.0, confidence=None), Word(text='c', start=2.0, end=3.0, confidence=None)]
    """
    words = [word for word, _ in split_words(pieces)]
    letter = duration / max(sum(map(len, words)), 1)
    edges = [0]
    for word in words:
        edges.append(edges[-1] + len(word))
    return [
        Word(word, before * letter, after * letter, None)
        for word, before, after in zip(words, edges, edges[1:], strict=False)
    ]


def joined(pieces: Sequence[str]) -> str:
    r"""The text of pieces, without spaces around it.

    A piece of bytes may hold a part of a character: such bytes stand in it as Python's "surrogateescape" has them. What
    the pieces together do not complete becomes U+FFFD.

    >>> joined([" na", "\udcc3", "\udcaf", "ve"])
    'naïve'
    """
    return "".join(pieces).encode("utf-8", "surrogateescape").decode("utf-8", "replace").strip()


def split_words(pieces: Sequence[str]) -> list[tuple[str, list[int]]]:
    """The words of a text, each with the pieces that it has letters of.

    Args:
        pieces: Text pieces; there may be spaces anywhere in them.

    >>> split_words(["a", "b", " ", " c", "d e"])
    [('ab', [0, 1]), ('cd', [3, 4]), ('e', [4])]
    """
    words: list[tuple[str, list[int]]] = []
    within = False
    for index, piece in enumerate(pieces):
        for letter in piece:
            if letter.isspace():
                within = False
                continue
            if not within:
                words.append(("", []))
                within = True
            text, indices = words[-1]
            words[-1] = (text + letter, indices if indices[-1:] == [index] else [*indices, index])
    return [(joined(word), indices) for word, indices in words]

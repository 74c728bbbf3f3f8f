"""When each word was said: the most probable path of CTC that gives the text (Graves et al. 2006, section 3)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torchaudio.functional import forced_align, merge_tokens

from tasks.asr.feasibility import needed_frames


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

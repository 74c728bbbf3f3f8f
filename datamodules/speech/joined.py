"""Utterances joined to long recordings."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from jaxtyping import Int64

from datamodules.speech.recordings import Recordings
from datamodules.speech.samples import SpeechSamples, Spoken
from datamodules.speech.text import Tokenizer


class JoinedSamples(SpeechSamples):
    """Recordings of several utterances, one behind the other in the order of the list, nothing between them.

    Each is as short as it can be and not shorter than `seconds`; the last one has what is left. Every utterance is in
    one of them.

    Args:
        recordings: The utterances.
        tokenizer: Gives the tokens of a text.
        seconds: Least length of a recording.
        speeds: Factors of the speed, one of which is drawn by the seed.
    """

    def __init__(
        self, recordings: Recordings, tokenizer: Tokenizer, *, seconds: float, speeds: Sequence[Fraction] = ()
    ) -> None:
        super().__init__(recordings, tokenizer, speeds=speeds)
        self.members = join(recordings.lengths, round(seconds * recordings.sample_rate))

    def __len__(self) -> int:
        return len(self.members)

    def plain_lengths(self, seeds: np.ndarray) -> np.ndarray:  # noqa: ARG002 - they are the same in each epoch
        """Samples of each recording, before the speed is changed."""
        return np.array([self.recordings.lengths[members].sum() for members in self.members])

    def speak(self, index: int, seed: int) -> Spoken:
        """Gives a recording, with the seconds of its words if those of all its utterances are known."""
        parts, words, place = [super(JoinedSamples, self).speak(each, seed) for each in self.members[index]], [], 0.0
        for part in parts:
            if part.words is None or words is None:
                words = None
                continue
            words += [(word, start + place, end + place) for word, start, end in part.words]
            place += len(part.audio) / self.recordings.sample_rate
        return Spoken(
            torch.cat([part.audio for part in parts]),
            " ".join(part.text for part in parts),
            f"{parts[0].name} and {len(parts) - 1} more",
            words,
        )


def join(lengths: Int64[np.ndarray, " utterances"], least: int) -> list[list[int]]:
    """Cuts a list of utterances into pieces that are each as short as can be, and not shorter than `least`.

    >>> join(np.array([3, 2, 4, 1, 1]), 4)
    [[0, 1], [2], [3, 4]]
    """
    pieces: list[list[int]] = []
    rest = 0
    for number, length in enumerate(lengths.tolist()):
        if rest <= 0:
            pieces.append([])
            rest = least
        pieces[-1].append(number)
        rest -= length
    return pieces

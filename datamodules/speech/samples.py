"""Utterances as samples, at a random speed in training, and their batches."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.speech.reading import resample, resampled_length
from datamodules.speech.recordings import Recordings, Words
from datamodules.speech.text import Tokenizer

Key = int | tuple[int, int]
"""Number of a sample, and its seed if it is to be augmented."""


class Spoken(NamedTuple):
    """Audio in [-1, 1], what is said in it, what names it, and when each word is said if that is known."""

    audio: Float[Tensor, " samples"]
    text: str
    name: str
    words: Words | None


class SpeechSamples(Dataset):
    """Batches of utterances; with a seed, each at one of several speeds, which changes its pitch as well.

    A subclass may make samples in other ways: it overrides `__len__`, `plain_lengths` and `speak`.

    Args:
        recordings: The utterances.
        tokenizer: Gives the tokens of a text.
        speeds: Factors of the speed, one of which is drawn by the seed.
    """

    def __init__(self, recordings: Recordings, tokenizer: Tokenizer, *, speeds: Sequence[Fraction] = ()) -> None:
        self.recordings = recordings
        self.tokenizer = tokenizer
        self.speeds = list(speeds)

    def __len__(self) -> int:
        return len(self.recordings)

    def plain_lengths(self, seeds: np.ndarray) -> np.ndarray:  # noqa: ARG002 - for those that depend on it
        """Samples of each utterance under its seed, before the speed is changed."""
        return self.recordings.lengths

    def speak(self, index: int, seed: int) -> Spoken:  # noqa: ARG002
        """Gives an utterance before its speed is changed."""
        utterance = self.recordings.utterances[index]
        return Spoken(self.recordings.read(index), self.recordings.texts[index], str(utterance.path), utterance.words)

    def lengths(self, seeds: np.ndarray) -> np.ndarray:
        """Samples of each utterance, from the seeds of all."""
        plain = self.plain_lengths(seeds)
        if not self.speeds:
            return plain
        drawn = self._draw(seeds)
        changed = np.stack([resampled_length(plain, speed) for speed in self.speeds])  # pyright: ignore[reportArgumentType, reportCallIssue]
        return changed[drawn, np.arange(len(plain))]

    def _draw(self, seeds: Any) -> Any:
        return (seeds >> 16) % len(self.speeds)  # bits of a hash, whose lowest other draws begin with

    def __getitem__(self, keys: Key | Sequence[Key]) -> list[dict[str, Any]]:
        # Lightning's overfit_batches asks for one plain index.
        return [self._sample(key) for key in (keys if isinstance(keys, list) else [keys])]  # pyright: ignore[reportArgumentType]

    def _sample(self, key: Key) -> dict[str, Any]:
        index, seed = key if isinstance(key, tuple) else (key, None)
        audio, text, name, words = self.speak(index, index if seed is None else seed)
        if self.speeds and seed is not None:
            speed = self.speeds[self._draw(seed)]
            audio = resample(audio, speed).clamp(-1, 1)
            words = words and [(word, start / float(speed), end / float(speed)) for word, start, end in words]
        return {"audio": audio, "tokens": self.tokenizer.encode(text), "text": text, "name": name, "words": words}


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Makes a batch: pads audio and tokens with 0; `words` only if they are known of every utterance."""
    lists = {name: [sample[name] for sample in samples] for name in samples[0]}
    tokens = [torch.tensor(tokens, dtype=torch.long) for tokens in lists["tokens"]]
    words = {} if None in lists["words"] else {"words": lists["words"]}
    return {
        **pad(lists["audio"]),
        "tokens": torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True),
        "token_lengths": torch.tensor([len(row) for row in tokens]),
        "text": lists["text"],
        "name": lists["name"],
        **words,
    }


def pad(audio: Sequence[Float[Tensor, " samples"]]) -> dict[str, Tensor]:
    """Pads to the longest: `audio` (batch, samples), 0 in the padding, and `audio_lengths` (batch,)."""
    lengths = torch.tensor([len(row) for row in audio], dtype=torch.long)
    padded = torch.nn.utils.rnn.pad_sequence(list(audio), batch_first=True) if audio else torch.zeros(0, 0)
    return {"audio": padded, "audio_lengths": lengths}

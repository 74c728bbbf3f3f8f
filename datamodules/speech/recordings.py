"""The utterances of a part: their texts, their lengths, and their audio in memory or on disk once it was decoded."""

import hashlib
import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from datamodules.speech.reading import count_samples, read_audio

Words = list[tuple[str, float, float]]
"""Words with their start and end, seconds."""

_SCALE = 2**15  # of 16-bit samples; all audio is brought to them, so that it is the same whether it was kept or not


class Utterance(NamedTuple):
    """A recording and what is said in it.

    Attributes:
        path: The recording.
        text: The transcript as it was found.
        where: The file and row that say so, for messages.
        words: When each word of the transcript is said, if that is known.
    """

    path: Path
    text: str
    where: str
    words: Words | None = None


class Recordings:
    """The utterances of a part with their normalised texts.

    Audio is kept once it was decoded: as 16-bit samples in memory that the processes of a loader share, of the first
    utterances whose samples take no more than `cache_bytes`; and, if there is a `cache_dir`, as files there.

    Args:
        utterances: The utterances.
        texts: The normalised text of each.
        sample_rate: Rate of the audio, Hz.
        cache_bytes: The most memory for audio.
        cache_dir: Folder for decoded audio.

    Attributes:
        lengths: Samples of each utterance, by its header.

    Raises:
        ValueError: If a recording cannot be read; one line that says where it is named.
        FileNotFoundError: If one is missing.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        texts: Sequence[str],
        *,
        sample_rate: int,
        cache_bytes: int = 0,
        cache_dir: Path | None = None,
    ) -> None:
        self.utterances = list(utterances)
        self.texts = list(texts)
        self.sample_rate = sample_rate
        self.lengths = np.array(_count(self.utterances, sample_rate), dtype=np.int64)
        self.cache_dir = cache_dir
        self._memory = _Memory(self.lengths, cache_bytes)

    def __len__(self) -> int:
        return len(self.utterances)

    def select(self, chosen: np.ndarray) -> "Recordings":
        """Gives some of the utterances."""
        part = object.__new__(Recordings)
        part.__dict__.update(self.__dict__)
        part.utterances = [self.utterances[index] for index in chosen.tolist()]
        part.texts = [self.texts[index] for index in chosen.tolist()]
        part.lengths = self.lengths[chosen]
        part._memory = _Memory(part.lengths, self._memory.limit)
        return part

    def read(self, index: int) -> Float[Tensor, " samples"]:
        """Gives the audio of an utterance, in [-1, 1].

        Raises:
            ValueError: If it cannot be decoded, or the `cache_dir` not be written.
            FileNotFoundError: If it is gone.
        """
        samples = self._memory.get(index)
        if samples is None:
            samples = self._decode(self.utterances[index])
            self._memory.put(index, samples)
        return torch.from_numpy(samples.astype(np.float32) / _SCALE)

    def _decode(self, utterance: Utterance) -> np.ndarray:
        if self.cache_dir is None:
            return self._decode_file(utterance)
        try:
            stat = utterance.path.stat()
        except OSError as error:
            raise FileNotFoundError(f"{utterance.where}: {utterance.path}: {error.strerror}") from None
        key = f"{utterance.path.absolute()}\n{stat.st_mtime_ns}\n{stat.st_size}\n{self.sample_rate}"
        file = self.cache_dir / f"{hashlib.sha256(key.encode(errors='surrogateescape')).hexdigest()[:32]}.npy"
        try:
            return np.load(file)
        except (OSError, ValueError, EOFError):  # not there yet, or damaged
            samples = self._decode_file(utterance)
        _write_whole(file, samples)
        return samples

    def _decode_file(self, utterance: Utterance) -> np.ndarray:
        try:
            audio = read_audio(utterance.path, self.sample_rate)
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(f"{utterance.where}: {error}") from None
        return (audio * _SCALE).round().clamp(-_SCALE, _SCALE - 1).to(torch.int16).numpy()


class _Memory:
    """16-bit samples of the first utterances that fit; forked processes share it, others begin with an empty one."""

    def __init__(self, lengths: np.ndarray, limit: int) -> None:
        self.lengths = lengths
        self.limit = limit
        ends = np.cumsum(lengths)
        count = int(np.searchsorted(ends * 2, limit, side="right"))
        self._ends = ends[:count]
        total = int(ends[count - 1]) if count else 0
        self._samples = np.frombuffer(mmap.mmap(-1, max(1, total) * 2), dtype=np.int16)
        self._filled = np.frombuffer(mmap.mmap(-1, max(1, count)), dtype=np.uint8)

    def __reduce__(self) -> tuple[type, tuple[np.ndarray, int]]:
        return type(self), (self.lengths, self.limit)

    def _place(self, index: int) -> np.ndarray:
        return self._samples[self._ends[index] - self.lengths[index] : self._ends[index]]

    def get(self, index: int) -> np.ndarray | None:
        return self._place(index) if index < len(self._ends) and self._filled[index] else None

    def put(self, index: int, samples: np.ndarray) -> None:
        if index < len(self._ends) and len(samples) == self.lengths[index]:
            self._place(index)[:] = samples
            self._filled[index] = 1  # only now: another process may look


def _count(utterances: Sequence[Utterance], sample_rate: int) -> list[int]:
    """Samples of each by its header; names the first that has none, and says how many more there are."""
    lengths: list[int] = []
    errors: list[Exception] = []
    for utterance in utterances:
        try:
            lengths.append(count_samples(utterance.path, sample_rate))
        except (ValueError, FileNotFoundError) as error:
            errors.append(type(error)(f"{utterance.where}: {error}"))
    if errors:
        more = f"; and {len(errors) - 1} more of {len(utterances)}" if len(errors) > 1 else ""
        raise type(errors[0])(f"{errors[0]}{more}")
    return lengths


def _write_whole(file: Path, samples: np.ndarray) -> None:
    """Writes beside the file and renames, so that another process never sees half of it."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=file.parent, prefix=".", suffix=".npy")
        try:
            with os.fdopen(handle, "wb") as to:
                np.save(to, samples)
            Path(beside).replace(file)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ValueError(
            f"cache_dir={file.parent}: cannot be written ({error.strerror}); give another folder, or none"
        ) from None

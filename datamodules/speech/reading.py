"""Reads audio of every common kind as mono at one sample rate, whole or a window of it, and says what is wrong."""

import os
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile
import torch
from jaxtyping import Float
from torch import Tensor
from torchaudio.transforms import Resample

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3"})
_RATES = range(1_000, 768_001)  # Hz; a filter for other rates would be as long as the audio
_LARGEST_TERM = 1_000  # of the ratio of two rates: an odd one, as 44,101 to 16,000, gets within 1e-6 of its own
_BLOCK = 16_384  # frames decoded at once, so that memory does not grow with the number of channels
_LOUDEST = 64.0  # floating-point audio beyond was never scaled to [-1, 1]


class AudioReader:
    """An open file, mono at a sample rate: channels are averaged, the rate is changed by a windowed sinc filter.

    What lies beyond [-1, 1] (lossy files and filters overshoot) is cut to it.

    Args:
        path: A file: WAV, FLAC, OGG (Vorbis, Opus) or MP3, with any number of channels and of bits.
        sample_rate: The rate it is given in, Hz.

    Attributes:
        num_samples: Samples that the file says to have, at `sample_rate`.

    Raises:
        ValueError: If the file cannot be read as audio; one line that names the file and what is wrong.
        FileNotFoundError: If there is no such file.
    """

    def __init__(self, path: Path, sample_rate: int) -> None:
        self.path = path
        self.sample_rate = sample_rate
        self._file = _open(path)
        self._ratio = Fraction(self._file.samplerate, sample_rate).limit_denominator(_LARGEST_TERM)
        self._kept, self._kept_from = torch.zeros(0), 0  # the frames of the last window: the next may overlap
        self.num_samples = resampled_length(self._file.frames, self._ratio)

    def __enter__(self) -> "AudioReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, start: int, stop: int) -> Float[Tensor, " samples"]:
        """Reads a window, the same samples as in the whole file; fewer if the file ends or is damaged before `stop`.

        Args:
            start: First sample, at `sample_rate`.
            stop: The sample after the last.

        Raises:
            ValueError: If the samples are not numbers in [-1, 1].
        """
        stop = min(stop, self.num_samples)
        if start >= stop:
            return torch.zeros(0)
        taken, given = self._ratio.as_integer_ratio()  # so many frames of the file make so many samples
        if taken == given:
            return self._decode(start, stop).clamp(-1, 1)
        # A sample depends on the frames under the filter around it, so whole blocks are read beyond both ends.
        beside = -(-_resampler(taken, given).width // taken)
        first = max(0, start // given - beside)
        last = (stop - 1) // given + 1 + beside
        frames = self._decode(first * taken, min(last * taken, self._file.frames))
        offset = start - first * given
        return resample(frames, self._ratio)[offset : offset + stop - start].clamp(-1, 1)

    def _decode(self, start: int, stop: int) -> Float[Tensor, " frames"]:
        """The file's own frames, as many as can be decoded."""
        if not self._kept_from <= start <= self._kept_from + len(self._kept):
            # Opened anew, since libsndfile may miss by a block where it seeks in OGG after it has read (its issue 885).
            self._file.close()
            self._file = _open(self.path)
            self._kept, self._kept_from = torch.zeros(0), start
            try:
                self._file.seek(start)
            except soundfile.SoundFileError:  # damaged before
                self._kept_from = -1
                return self._kept
        self._kept, self._kept_from = self._kept[start - self._kept_from :], start
        self._kept = torch.cat([self._kept, *self._next(stop - start - len(self._kept))])
        return self._kept[: stop - start]

    def _next(self, count: int) -> Iterator[Float[Tensor, " frames"]]:
        """The frames that follow in the file, in blocks."""
        try:
            for place in range(0, count, _BLOCK):
                block = self._file.read(min(_BLOCK, count - place), dtype="float32", always_2d=True)
                yield torch.from_numpy(self._checked(block).mean(axis=1))
        except soundfile.SoundFileError:
            pass  # damaged from here on: the number of samples tells

    def _checked(self, block: np.ndarray) -> np.ndarray:
        peak = np.abs(block).max(initial=0)
        if not np.isfinite(peak):
            raise ValueError(f"{self.path}: has samples that are no numbers (NaN or infinite); save it anew")
        if peak > _LOUDEST:
            raise ValueError(
                f"{self.path}: has samples up to {peak:.4g}, but those of floating-point audio lie in [-1, 1]; scale it"
            )
        return block

    def damage(self, num_read: int) -> str:
        """Says that nothing could be read beyond a number of samples."""
        seconds = (count / self.sample_rate for count in (num_read, self.num_samples))
        return "{}: is truncated or damaged: {:.2f} of {:.2f} s can be read".format(self.path, *seconds)


def read_audio(path: Path, sample_rate: int) -> Float[Tensor, " samples"]:
    """Reads a whole file as mono in [-1, 1].

    Args:
        path: A file: WAV, FLAC, OGG (Vorbis, Opus) or MP3.
        sample_rate: The rate it is given in, Hz.

    Raises:
        ValueError: If it cannot be read as audio, or not to its end; one line that names the file and what is wrong.
        FileNotFoundError: If there is no such file.
    """
    with AudioReader(path, sample_rate) as reader:
        audio = reader.read(0, reader.num_samples)
        if len(audio) < reader.num_samples:
            raise ValueError(reader.damage(len(audio)))
        return audio


def count_samples(path: Path, sample_rate: int) -> int:
    """Number of samples of a file at a rate, by its header.

    Raises:
        ValueError: If it cannot be read as audio.
        FileNotFoundError: If there is no such file.
    """
    with AudioReader(path, sample_rate) as reader:
        return reader.num_samples


def resample(audio: Float[Tensor, " samples"], ratio: Fraction) -> Float[Tensor, " resampled"]:
    """Changes the rate by a sinc filter under a Hann window (as `torchaudio.functional.resample`).

    Args:
        audio: Samples.
        ratio: The old rate by the new one; also how much faster it sounds if it is then played at the old one.

    >>> len(resample(torch.zeros(100), Fraction(9, 10)))
    112
    """
    taken, given = ratio.as_integer_ratio()
    if taken == given or not len(audio):
        return audio
    return _resampler(taken, given)(audio)


def resampled_length(length: int, ratio: Fraction) -> int:
    """Number of samples that `resample` makes of `length`."""
    return -(-length * ratio.denominator // ratio.numerator)


def _open(path: Path) -> soundfile.SoundFile:
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        file = soundfile.SoundFile(path)
    except Exception:  # a file that is no audio makes libsndfile say nearly anything
        raise ValueError(f"{path}: {_reason(Path(path))}") from None
    if file.samplerate not in _RATES:
        file.close()
        rates = f"{_RATES.start:,} to {_RATES.stop - 1:,}"
        raise ValueError(f"{path}: has {file.samplerate} samples a second, but {rates} can be read")
    return file


@lru_cache(maxsize=16)
def _resampler(taken: int, given: int) -> Resample:
    return Resample(taken, given)  # computes its filter once


def _reason(path: Path) -> str:
    if path.is_dir():
        return "is a folder, not audio"
    if not os.access(path, os.R_OK):
        return "may not be read (permission denied)"
    if path.stat().st_size == 0:
        return "is empty"
    return "is not readable audio (WAV, FLAC, OGG or MP3)"

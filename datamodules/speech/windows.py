"""Files of any length to predict, as overlapping windows that are read one after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from datamodules.speech.reading import AudioReader
from datamodules.speech.samples import pad


@dataclass(frozen=True)
class Window:
    """A part of a file: the file's number, the audio, the second at which it starts, whether it is the last."""

    index: int
    audio: Float[Tensor, " samples"]
    start: float
    last: bool


class AudioWindows(IterableDataset):
    """Batches of the windows of files, in their order; a file is never in memory as a whole.

    A batch has `audio` (batch, samples), `audio_lengths`, `index`, `start` and `last` (batch,), and `failed`, a list of
    `(index, reason)`. A file that is damaged further on fails, but what is before it comes, and its `last` window too.
    With several workers, each takes its share of the files.

    Args:
        paths: The files.
        sample_rate: Rate of the audio, Hz.
        window: Samples of a window; the last of a file may be shorter, but is longer than `overlap`.
        overlap: Samples that a window shares with the next.
        limit: The most samples of a batch, padding included; a batch has at least one window.
    """

    def __init__(self, paths: Sequence[Path], *, sample_rate: int, window: int, overlap: int, limit: int) -> None:
        self.paths = paths
        self.sample_rate = sample_rate
        self.window = window
        self.overlap = overlap
        self.limit = limit

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        windows: list[Window] = []
        failed: list[tuple[int, str]] = []
        for index in range(first, len(self.paths), step):
            try:
                for window in self._windows(index):
                    longest = max(len(each.audio) for each in [*windows, window])
                    if windows and longest * (len(windows) + 1) > self.limit:
                        yield _batch(windows, failed)
                        windows, failed = [], []
                    windows.append(window)
            except (ValueError, OSError) as error:
                failed.append((index, str(error)))
        if windows or failed:
            yield _batch(windows, failed)

    def _windows(self, index: int) -> Iterator[Window]:
        before: Window | None = None
        error: Exception | None = None
        try:
            for start, audio in self._read(self.paths[index]):
                if before:
                    yield before
                before = Window(index, audio, start / self.sample_rate, last=False)
        except (ValueError, OSError) as caught:
            error = caught
        if before:
            yield replace(before, last=True)
        if error:
            raise error

    def _read(self, path: Path) -> Iterator[tuple[int, Float[Tensor, " samples"]]]:
        """The first sample and the audio of each window; an error where the file is damaged."""
        with AudioReader(path, self.sample_rate) as reader:
            if not reader.num_samples:
                raise ValueError(f"{path}: holds no audio")
            for start in range(0, max(1, reader.num_samples - self.overlap), self.window - self.overlap):
                stop = min(start + self.window, reader.num_samples)
                audio = reader.read(start, stop)
                if len(audio) > (self.overlap if start else 0):  # else it has nothing that the one before has not
                    yield start, audio
                if len(audio) < stop - start:
                    raise ValueError(reader.damage(start + len(audio)))


def _batch(windows: Sequence[Window], failed: list[tuple[int, str]]) -> dict[str, Any]:
    return {
        **pad([window.audio for window in windows]),
        "index": torch.tensor([window.index for window in windows], dtype=torch.long),
        "start": torch.tensor([window.start for window in windows], dtype=torch.float64),
        "last": torch.tensor([window.last for window in windows], dtype=torch.bool),
        "failed": failed,
    }

"""Batches of utterances of about one length, bounded by the audio that they hold with their padding."""

import heapq
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.utils.data.distributed import DistributedSampler

from datamodules.seeded import ShareSampler, mix

PADDING = 0.1
"""The most that padding may take of the samples of an epoch."""

_JITTER = 0.1  # lengths that differ by less than this share may change places, so that batches differ between epochs
_EARLY = 4  # epochs that are cut to know how many batches one has


def cut_batches(lengths: np.ndarray, order: np.ndarray, *, limit: int, at_least: int = 1) -> list[np.ndarray]:
    """Cuts an order of utterances into batches, and those of uneven lengths again until little is padding.

    Args:
        lengths: Samples of each utterance.
        order: Numbers of utterances, by length or nearly so.
        limit: The most samples that a batch may have, padding included; a longer utterance is a batch of its own.
        at_least: The number of batches that there must be, if there are so many utterances.

    Returns:
        The utterances of each batch, the longest first.
    """
    batches, start, longest, sizes = [], 0, 0, lengths[order].tolist()
    for place, length in enumerate(sizes):
        longest = max(longest, length)
        if place > start and longest * (place - start + 1) > limit:
            batches.append(order[start:place])
            start, longest = place, length
    if len(order):
        batches.append(order[start:])
    return _cut_unevenness(lengths, [batch[np.argsort(-lengths[batch], kind="stable")] for batch in batches], at_least)


def _cut_unevenness(lengths: np.ndarray, batches: list[np.ndarray], at_least: int) -> list[np.ndarray]:
    """Cuts where it saves the most padding until that is under `PADDING`, then the largest in halves."""
    needed = sum(int(lengths[batch].sum()) for batch in batches)
    padded = sum(int(lengths[batch[0]]) * len(batch) for batch in batches)
    heap = [(*_best_cut(lengths[batch]), number, batch) for number, batch in enumerate(batches)]
    heapq.heapify(heap)
    while heap and padded - needed > PADDING * padded:
        saved, place, _, batch = heapq.heappop(heap)
        padded += saved
        for part in (batch[:place], batch[place:]):
            heapq.heappush(heap, (*_best_cut(lengths[part]), len(batches), part))
            batches.append(part)  # only numbers the parts, so that equal ones have an order
    batches = [batch for *_, batch in sorted(heap, key=lambda entry: entry[2])]
    while 0 < len(batches) < at_least:
        place = max(range(len(batches)), key=lambda number: len(batches[number]))
        if len(batches[place]) < 2:
            break
        batches[place : place + 1] = np.array_split(batches[place], 2)
    return batches


def _best_cut(lengths: np.ndarray) -> tuple[int, int]:
    """The padding that a cut of a batch saves at most, negative, and where; lengths are descending."""
    saved = (lengths[0] - lengths) * np.arange(len(lengths), 0, -1)
    place = int(saved.argmax())
    return -int(saved[place]), place


class LengthSampler(DistributedSampler[list[tuple[int, int]]]):
    """Yields the batches of an epoch in random order, each a list of `(index, seed)`, as `SeededSampler` does samples.

    Who shares a batch changes from epoch to epoch, since lengths are jittered and augmentation changes them. Yet every
    epoch has as many batches, the most of the first few: if one needs fewer, its largest are cut in halves; if one
    needs more, some are left out. Every rank gets the same number.

    Args:
        size: Number of utterances.
        lengths: Gives the samples of every utterance, from the seeds of all.
        limit: The most samples of a batch, padding included.
        seed: The run's seed.
        epoch: The first epoch.
        skip: Number of this rank's batches that the first epoch leaves out; `len` still counts them.
        rank: Number of this process.
        world_size: Number of processes.

    Raises:
        ValueError: If there are fewer utterances than processes.
    """

    def __init__(
        self,
        size: int,
        lengths: Callable[[np.ndarray], np.ndarray],
        *,
        limit: int,
        seed: int,
        epoch: int = 0,
        skip: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(range(size), num_replicas=world_size, rank=rank, seed=seed, drop_last=True)  # pyright: ignore[reportArgumentType]
        self.size = size
        self.lengths = lengths
        self.limit = limit
        self.epoch = epoch
        self.first_epoch = epoch
        self.skip = skip
        if size < world_size:
            raise ValueError(f"{size} training utterances are too few for {world_size} processes")
        count = max(len(self._cut(early, torch.Generator())[0]) for early in range(_EARLY))
        self.count = min(size // world_size, -(-count // world_size))  # of each rank

    def _cut(self, epoch: int, generator: torch.Generator, at_least: int = 1) -> tuple[list[np.ndarray], np.ndarray]:
        generator.manual_seed(int(mix(self.seed, epoch, np.array([-1]))[0]))
        seeds = mix(self.seed, epoch, np.arange(self.size))
        lengths = self.lengths(seeds)
        jitter = 1 + _JITTER * (torch.rand(self.size, generator=generator, dtype=torch.float64).numpy() - 0.5)
        order = np.argsort(lengths * jitter, kind="stable")
        return cut_batches(lengths, order, limit=self.limit, at_least=at_least), seeds

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, generator, needed = self.epoch, torch.Generator(), self.count * self.num_replicas
        batches, seeds = self._cut(epoch, generator, at_least=needed)
        order = torch.randperm(len(batches), generator=generator).tolist()[:needed]
        skip = self.skip if epoch == self.first_epoch else 0
        for place in order[self.rank :: self.num_replicas][skip:]:
            batch = batches[place]
            yield list(zip(batch.tolist(), seeds[batch].tolist(), strict=True))

    def __len__(self) -> int:
        return self.count


class FixedBatches(ShareSampler):
    """Yields this rank's share of the batches of an evaluation, the longest utterances first.

    Args:
        lengths: Samples of each utterance.
        limit: The most samples of a batch, padding included.
        rank: Number of this process.
        world_size: Number of processes.
    """

    def __init__(self, lengths: np.ndarray, *, limit: int, rank: int = 0, world_size: int = 1) -> None:
        batches = cut_batches(lengths, np.argsort(-lengths, kind="stable"), limit=limit)
        self.batches = sorted((batch.tolist() for batch in batches), key=lambda batch: -lengths[batch[0]])
        super().__init__(len(batches), rank=rank, world_size=world_size)

    def __iter__(self) -> Iterator[list[int]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return (self.batches[number] for number in self.share)

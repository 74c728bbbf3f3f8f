"""The order of training and the seed of every sample: functions of (seed, epoch, index), never of a process's state.

So the same pictures come in the same order with the same augmentation for any number of workers, and a run that is
resumed in the middle of an epoch sees what the uninterrupted run would have seen.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

_BLOCK = 65_536  # samples whose numbers are Python's at once: those of ten million would take a gigabyte


def mix(seed: int, epoch: int, index: np.ndarray) -> np.ndarray:
    """Hashes (seed, epoch, index) to seeds of 63 bits with the finaliser of SplitMix64 (Steele et al. 2014).

    Args:
        seed: The run's seed.
        epoch: Number of the epoch, from 0.
        index: Numbers of the samples; -1 stands for the order of the epoch.

    >>> mix(0, 0, np.arange(2)).tolist() == mix(0, 0, np.arange(2)).tolist()
    True
    """
    state = np.zeros(index.shape, np.uint64)
    for part in (np.uint64(seed % 2**64), np.uint64(epoch), index.astype(np.uint64)):
        state = (state ^ part) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return (state >> np.uint64(1)).astype(np.int64)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds what torch (on the CPU) and `random` draw inside, and leaves both as they were.

    `torch.random.fork_rng` does the same for torch, but takes 0.15 ms, as long as an augmentation.
    """
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        random.setstate(python_state)


class SeededSampler(DistributedSampler[tuple[int, int]]):
    """Yields `(index, seed)` of each training sample, in the order of the epoch that `set_epoch` chose.

    Every rank gets the same number of samples; which ones are left over changes from epoch to epoch. It is a
    `DistributedSampler` because Lightning replaces any other sampler as soon as there are several ranks.

    Args:
        size: Number of samples.
        seed: The run's seed.
        epoch: The first epoch.
        skip: Number of this rank's samples that the first epoch leaves out, since they were seen before the run was
            interrupted. `len` still counts them: Lightning counts its batches from where the epoch began.
        rank: Number of this process.
        world_size: Number of processes.
    """

    def __init__(
        self, size: int, *, seed: int, epoch: int = 0, skip: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__(range(size), num_replicas=world_size, rank=rank, seed=seed, drop_last=True)  # pyright: ignore[reportArgumentType]
        self.size = size
        self.epoch = epoch
        self.first_epoch = epoch
        self.skip = skip

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch
        generator = torch.Generator().manual_seed(int(mix(self.seed, epoch, np.array([-1]))[0]))
        order = torch.randperm(self.size, generator=generator).numpy()
        mine = order[self.rank : self.total_size : self.num_replicas]
        if epoch == self.first_epoch:
            mine = mine[self.skip :]
        for begin in range(0, len(mine), _BLOCK):
            block = mine[begin : begin + _BLOCK]
            yield from zip(block.tolist(), mix(self.seed, epoch, block).tolist(), strict=True)


class ShareSampler(DistributedSampler[int]):
    """Yields this rank's share of an evaluation in a fixed order: every sample counts, and counts once.

    Ranks may differ by one sample, while Lightning's own sampler would repeat some to make them equal.

    Args:
        size: Number of samples.
        rank: Number of this process.
        world_size: Number of processes.
    """

    def __init__(self, size: int, *, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(range(size), num_replicas=world_size, rank=rank, shuffle=False)  # pyright: ignore[reportArgumentType]
        self.share = range(rank, size, world_size)

    def __iter__(self) -> Iterator[int]:
        return iter(self.share)

    def __len__(self) -> int:
        return len(self.share)


class TrainLoader(DataLoader):
    """Tells Lightning that training can be resumed within an epoch; the data module's state holds the place.

    Lightning asks a loader for its state, but forgets to give it back if a learning rate schedule has asked for
    `estimated_stepping_batches`. So the loader's own state is empty.
    """

    def state_dict(self) -> dict[str, int]:
        """Gives nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Takes nothing."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datamodules.seeded import SeededSampler, ShareSampler, mix, seeded

sizes = st.integers(0, 50)
worlds = st.integers(1, 5)


def test_seeds_are_pinned():
    """A change of the hash would change every run."""
    assert mix(0, 0, np.array([0, 1])).tolist() == [1279368494785126216, 1700482428262628912]


@given(st.integers(0, 2**40), st.integers(0, 1000))
def test_seeds_differ_between_samples_epochs_and_runs(seed, epoch):
    index = np.arange(100)
    seeds = [mix(seed, epoch, index), mix(seed, epoch + 1, index), mix(seed + 1, epoch, index)]
    assert len(set(np.concatenate(seeds).tolist())) == 300
    assert min(np.concatenate(seeds)) >= 0


@given(sizes, worlds, st.integers(0, 3))
def test_ranks_share_an_epoch_evenly(size, world_size, epoch):
    parts = []
    for rank in range(world_size):
        sampler = SeededSampler(size, seed=1, rank=rank, world_size=world_size)
        sampler.set_epoch(epoch)
        parts.append(list(sampler))
        assert len(parts[-1]) == len(sampler) == size // world_size
    indices = [index for part in parts for index, _ in part]
    assert len(set(indices)) == len(indices)
    assert set(indices) <= set(range(size))


def test_every_epoch_has_another_order_and_the_same_samples():
    sampler = SeededSampler(50, seed=0)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert [index for index, _ in first] != [index for index, _ in second]
    assert sorted(index for index, _ in first) == sorted(index for index, _ in second) == list(range(50))
    assert not {seed for _, seed in first} & {seed for _, seed in second}


def test_the_skipped_part_is_missing_from_the_first_epoch_only():
    whole = SeededSampler(20, seed=0, epoch=2)
    rest = SeededSampler(20, seed=0, epoch=2, skip=12)
    assert list(rest) == list(whole)[12:]
    assert len(rest) == 20
    rest.set_epoch(3)
    whole.set_epoch(3)
    assert list(rest) == list(whole)


@given(sizes, worlds)
def test_evaluation_counts_every_sample_once(size, world_size):
    parts = [ShareSampler(size, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert sorted(index for part in parts for index in part) == list(range(size))
    assert [len(list(part)) for part in parts] == [len(part) for part in parts]


def test_seeded_leaves_the_process_as_it_was():
    torch.manual_seed(0)
    random.seed(0)
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    draws = []
    for _ in range(2):
        with seeded(7):
            draws.append((torch.rand(()).item(), random.random()))
    with pytest.raises(KeyError), seeded(8):
        raise KeyError
    assert draws[0] == draws[1]
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state


def test_blocks_change_nothing(monkeypatch):
    whole = list(SeededSampler(100, seed=1, epoch=2, skip=3))
    monkeypatch.setattr("datamodules.seeded._BLOCK", 7)
    assert list(SeededSampler(100, seed=1, epoch=2, skip=3)) == whole
    assert len(whole) == 97

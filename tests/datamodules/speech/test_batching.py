import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.speech.batching import PADDING, FixedBatches, LengthSampler, cut_batches

RATE = 16000
lengths = st.lists(st.floats(0.3, 15), min_size=1, max_size=80).map(lambda them: np.array(them) * RATE // 1)
limits = st.integers(5 * RATE, 200 * RATE)


def sampler(of, limit=60 * RATE, **arguments):
    return LengthSampler(len(of), lambda _: of, limit=limit, **{"seed": 0, **arguments})


def padding(of, batches):
    padded = sum(of[batch].max() * len(batch) for batch in batches)
    return 1 - sum(of[batch].sum() for batch in batches) / padded


def indices(batches):
    return [np.array([index for index, _ in batch]) for batch in batches]


@given(lengths, limits)
def test_batches_hold_every_utterance_once_under_the_limit(of, limit):
    batches = cut_batches(of, np.argsort(of), limit=limit)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(of)))
    assert all(len(batch) == 1 or of[batch].max() * len(batch) <= limit for batch in batches)
    assert padding(of, batches) <= PADDING + 1e-9


@given(lengths, limits, st.integers(0, 3))
def test_padding_of_an_epoch_is_under_a_tenth(of, limit, epoch):
    them = sampler(of, limit)
    them.set_epoch(epoch)
    assert padding(of, indices(them)) <= 2 * PADDING  # some batches may be left out
    assert all(len(batch) == 1 or of[batch].max() * len(batch) <= limit for batch in indices(them))


@pytest.mark.parametrize("draw", ["uniform", "log"])
def test_padding_on_lengths_of_speech(draw):
    random = np.random.default_rng(0)
    seconds = (
        random.uniform(0.3, 15, 2000) if draw == "uniform" else np.exp(random.uniform(np.log(0.3), np.log(15), 2000))
    )
    of = (seconds * RATE).astype(int)
    them = sampler(of, 120 * RATE)
    shares = []
    for epoch in range(3):
        them.set_epoch(epoch)
        batches = indices(them)
        shares.append(padding(of, batches))
        assert len(np.concatenate(batches)) >= 0.98 * len(of)
        full = of.sum() / (120 * RATE)
        assert len(batches) <= 1.3 * full + 10, "batches are full"
    assert max(shares) < PADDING
    assert padding(of, np.array_split(random.permutation(2000), 100)) > 0.4, "as they come"


@given(lengths, limits, st.integers(1, 4), st.integers(0, 3))
def test_ranks_share_an_epoch_evenly(of, limit, world_size, epoch):
    if len(of) < world_size:
        with pytest.raises(ValueError, match=rf"{len(of)} training utterances are too few for {world_size} processes"):
            sampler(of, limit, world_size=world_size)
        return
    parts = []
    for rank in range(world_size):
        them = sampler(of, limit, rank=rank, world_size=world_size)
        them.set_epoch(epoch)
        parts.append(list(them))
        assert len(parts[-1]) == len(them) == len(sampler(of, limit, world_size=world_size))
    everyone = [index for part in parts for batch in part for index, _ in batch]
    assert len(set(everyone)) == len(everyone)


def test_every_epoch_has_other_batches_in_another_order_and_as_many():
    random = np.random.default_rng(1)
    table = random.uniform(0.3, 15, (8, 300)) * RATE  # augmentation changes lengths from epoch to epoch
    them = LengthSampler(300, lambda seeds: table[int(seeds[0]) % 8], limit=60 * RATE, seed=0)
    epochs = []
    for epoch in range(12):
        them.set_epoch(epoch)
        epochs.append(indices(them))
        assert len(epochs[-1]) == len(them)
    assert len({frozenset(map(tuple, epoch)) for epoch in epochs}) == 12
    fixed = sampler(table[0])
    longest = [table[0][batch].max() for batch in indices(fixed)]
    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)
    same = {tuple(sorted(batch.tolist())) for batch in indices(fixed)}
    fixed.set_epoch(1)
    assert len(same & {tuple(sorted(batch.tolist())) for batch in indices(fixed)}) < len(same) / 2


def test_the_skipped_part_is_missing_from_the_first_epoch_only():
    of = np.random.default_rng(0).uniform(0.3, 15, 100) * RATE
    whole, rest = sampler(of, epoch=2), sampler(of, epoch=2, skip=3)
    assert list(rest) == list(whole)[3:]
    assert len(rest) == len(whole)
    for them in (whole, rest):
        them.set_epoch(3)
    assert list(rest) == list(whole)


def test_seeds_differ_between_samples_epochs_and_runs():
    of = np.full(50, RATE)
    seeds = [
        seed for run in (0, 1) for epoch in (0, 1) for batch in sampler(of, seed=run, epoch=epoch) for _, seed in batch
    ]
    assert len(set(seeds)) == len(seeds) == 200


@given(lengths, limits, st.integers(1, 4))
def test_evaluation_counts_every_utterance_once_and_begins_with_the_longest(of, limit, world_size):
    parts = [list(FixedBatches(of, limit=limit, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert sorted(index for part in parts for batch in part for index in batch) == list(range(len(of)))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert of[parts[0][0][0]] == of.max()


def test_utterances_without_audio():
    of = np.array([0, 0, 0, RATE])
    assert sorted(index for batch in FixedBatches(of, limit=10 * RATE) for index in batch) == [0, 1, 2, 3]

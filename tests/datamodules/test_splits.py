import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datamodules.splits import stratified_split

labels = st.lists(st.integers(0, 4), min_size=1, max_size=80).map(torch.tensor)


@given(labels, st.integers(0, 5))
def test_parts_are_disjoint_whole_and_stratified(labels, seed):
    parts = stratified_split(labels, [0.1, 0.25], seed=seed)
    assert sorted(torch.cat(parts).tolist()) == list(range(len(labels)))
    for number in range(5):
        members = int((labels == number).sum())
        assert int((labels[parts[1]] == number).sum()) == round(0.1 * members)
        assert int((labels[parts[2]] == number).sum()) == round(0.25 * members)
    assert all(torch.equal(part, part.sort().values) for part in parts)


def test_the_seed_decides():
    labels = torch.arange(100) % 4
    first, again, other = (stratified_split(labels, [0.2], seed=seed)[1] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("shares", [[-0.1], [1.0], [0.5, 0.5]])
def test_shares_that_leave_nothing_are_refused(shares):
    with pytest.raises(ValueError, match="shares"):
        stratified_split(torch.arange(10), shares)

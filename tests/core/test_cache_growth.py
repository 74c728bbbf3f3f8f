"""The cache grows in place: a step costs what its own tokens cost."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from core import FullAttention, KeyValueCache
from core.cache import Past
from core.masks import padding_mask
from tests.core.helpers import normal


@pytest.mark.parametrize("prompt", [[1, 1], [2, 1]], ids=["equal", "unequal"])
def test_keys_and_values_are_not_copied_at_each_step(prompt):
    cache, past, places = KeyValueCache(), Past(), []
    padding = padding_mask(torch.tensor(prompt), max(prompt))
    for step in range(200):
        new, mask = (normal(2, 2, max(prompt), 4), padding) if step == 0 else (normal(2, 2, 1, 4), None)
        cache.append(new, new, past)
        past = past.advance(new.shape[2], mask)
        assert cache.k is not None
        assert cache.v is not None
        places.append((cache.k.data_ptr(), cache.v.data_ptr()))
    moves = 1 + sum(before != after for before, after in pairwise(places))
    assert moves <= 9  # the first room, and a doubling for each power of 2 below 201


class Made(TorchDispatchMode):
    """Notes how many elements each tensor has that is made anew."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **kwargs or {})
        given = {x.untyped_storage().data_ptr() for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)}
        for x in tree_flatten(result)[0]:
            if isinstance(x, Tensor) and x.untyped_storage().data_ptr() not in given:
                self.sizes.append(x.numel())
        return result


@pytest.mark.parametrize("lengths", [None, torch.tensor([300, 299])], ids=["equal", "unequal"])
def test_a_step_makes_nothing_of_the_size_of_the_cache(lengths):
    attention, cache, k = FullAttention(), KeyValueCache(), normal(2, 2, 300, 16)
    step = normal(2, 2, 1, 16)
    cache.append(k, k, Past())
    cache.append(step, step, Past(300))  # makes room, which the next finds
    with Made() as made:
        attention.decode(step, step, step, cache, Past(300, lengths))
    assert max(made.sizes) < k.numel() / 4


def test_append_gives_views_of_all_tokens():
    cache, k, v = KeyValueCache(), normal(2, 2, 3, 4), normal(2, 2, 3, 4, seed=2)
    cache.append(k, v, Past())
    keys, values = cache.append(k[:, :, :1], v[:, :, :1], Past(3))
    assert torch.equal(keys, torch.cat([k, k[:, :, :1]], 2))
    assert torch.equal(values, torch.cat([v, v[:, :, :1]], 2))
    assert cache.k is not None
    assert keys.data_ptr() == cache.k.data_ptr()

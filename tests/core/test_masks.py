"""Masks, in numbers that a hand can derive and in properties that hold for all."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.masks import causal_mask, combine_masks, padding_mask

LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=4)


def test_padding_mask_by_hand():
    assert padding_mask(torch.tensor([2, 0, 3])).int().tolist() == [[0, 0, 1], [1, 1, 1], [0, 0, 0]]
    assert padding_mask(torch.tensor([1]), 3).int().tolist() == [[0, 1, 1]]
    assert padding_mask(torch.tensor([], dtype=torch.long)).shape == (0, 0)


@given(LENGTHS, st.integers(0, 3))
def test_padding_mask_keeps_the_lengths(lengths, extra):
    width = max(lengths) + extra
    mask = padding_mask(torch.tensor(lengths), width)
    assert mask.shape == (len(lengths), width)
    assert (~mask).sum(1).tolist() == lengths
    assert (mask.int().diff(dim=1) >= 0).all()  # all padding lies behind


def test_padding_mask_refuses():
    with pytest.raises(ValueError, match=r"max_length=2 .*\(3\)"):
        padding_mask(torch.tensor([1, 3]), 2)
    with pytest.raises(ValueError, match=r"lengths .*-1"):
        padding_mask(torch.tensor([1, -1]))


def test_causal_mask_by_hand():
    assert causal_mask(3).int().tolist() == [[0, 1, 1], [0, 0, 1], [0, 0, 0]]
    assert causal_mask(2, 4).int().tolist() == [[0, 0, 0, 1], [0, 0, 0, 0]]


@given(st.integers(1, 8), st.integers(0, 8))
def test_causal_mask_blocks_exactly_the_future(query_len, cached):
    mask = causal_mask(query_len, query_len + cached)
    for query in range(query_len):
        for key in range(query_len + cached):
            assert mask[query, key] == (key > query + cached)


def test_causal_mask_refuses_fewer_keys_than_queries():
    with pytest.raises(ValueError, match="key_len=2, query_len=3"):
        causal_mask(3, 2)


def test_combine_masks_by_hand():
    padding = torch.tensor([[False, False, True], [True, False, False]])
    attn = torch.tensor([[False, True, False], [False, False, False], [False, False, False]])
    combined = combine_masks(3, 3, key_padding_mask=padding, attn_mask=attn, is_causal=True)
    assert combined is not None
    assert combined.int().tolist() == [
        [[[0, 1, 1], [0, 0, 1], [0, 0, 1]]],
        [[[1, 1, 1], [1, 0, 1], [1, 0, 0]]],
    ]


def test_nothing_blocked_is_none():
    assert combine_masks(2, 3) is None


@given(st.integers(1, 3), st.integers(1, 5), st.integers(0, 4), *[st.booleans()] * 3, st.integers(0, 2**16))
def test_combine_masks_is_a_union(batch, query_len, cached, padded, masked, causal, seed):
    key_len, generator = query_len + cached, torch.Generator().manual_seed(seed)
    padding = torch.rand(batch, key_len, generator=generator) < 0.5 if padded else None
    attn = torch.rand(query_len, key_len, generator=generator) < 0.5 if masked else None
    combined = combine_masks(query_len, key_len, key_padding_mask=padding, attn_mask=attn, is_causal=causal)
    if combined is None:
        assert [padded, masked, causal] == [False, False, False]
        return
    combined = combined.expand(batch, 1, query_len, key_len)
    for b in range(batch):
        for i in range(query_len):
            for j in range(key_len):
                expected = (
                    (padding is not None and bool(padding[b, j]))
                    or (attn is not None and bool(attn[i, j]))
                    or (causal and j > i + cached)
                )
                assert bool(combined[b, 0, i, j]) == expected

"""Multi-head attention against torch's own, and by hand."""

import pytest
import torch
from torch import Tensor, nn

from core import Encoder, MultiHeadAttention
from core.masks import padding_mask
from tests.core.helpers import attention_pairs, copy_over, normal, randomise

EMBED_DIM, NUM_HEADS = 16, 4


def attentions() -> tuple[MultiHeadAttention, nn.MultiheadAttention]:
    theirs = nn.MultiheadAttention(EMBED_DIM, NUM_HEADS, batch_first=True)
    randomise(theirs)
    ours = MultiHeadAttention(EMBED_DIM, NUM_HEADS)
    copy_over(attention_pairs(ours, theirs))
    return ours, theirs


def assert_equal_to_torch(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pos_batch", [None, 1, 2])
def test_self_attention_is_that_of_torch(pos_batch):
    ours, theirs = attentions()
    x, padding = normal(2, 5, EMBED_DIM), padding_mask(torch.tensor([5, 3]))
    pos = None if pos_batch is None else normal(pos_batch, 5, EMBED_DIM, seed=2)
    asked = x if pos is None else x + pos
    expected, _ = theirs(asked, asked, x, key_padding_mask=padding)
    assert_equal_to_torch(ours(x, query_pos=pos, key_padding_mask=padding), expected)


@pytest.mark.parametrize("with_pos", [True, False])
@pytest.mark.parametrize("with_query_pos", [True, False])
def test_cross_attention_is_that_of_torch(with_query_pos, with_pos):
    ours, theirs = attentions()
    query, memory, padding = (
        normal(2, 3, EMBED_DIM),
        normal(2, 6, EMBED_DIM, seed=2),
        padding_mask(torch.tensor([6, 2])),
    )
    query_pos = normal(1, 3, EMBED_DIM, seed=3) if with_query_pos else None
    pos = normal(2, 6, EMBED_DIM, seed=4) if with_pos else None
    expected, _ = theirs(
        query if query_pos is None else query + query_pos,
        memory if pos is None else memory + pos,
        memory,
        key_padding_mask=padding,
    )
    assert_equal_to_torch(ours(query, memory, query_pos=query_pos, pos=pos, key_padding_mask=padding), expected)


@pytest.mark.parametrize("mask", ["attn_mask", "is_causal"])
def test_multihead_passes_every_mask_on(mask):
    ours, theirs = attentions()
    x, blocked = normal(2, 5, EMBED_DIM), torch.ones(5, 5, dtype=torch.bool).triu(1)
    expected, _ = theirs(x, x, x, attn_mask=blocked)
    actual = ours(x, attn_mask=blocked) if mask == "attn_mask" else ours(x, is_causal=True)
    assert_equal_to_torch(actual, expected)


def identity_attention(embed_dim: int, num_heads: int) -> MultiHeadAttention:
    """An attention whose projections change nothing."""
    attention = MultiHeadAttention(embed_dim, num_heads, bias=False)
    with torch.no_grad():
        attention.in_proj.weight.copy_(torch.eye(embed_dim).repeat(3, 1))
        attention.out_proj.weight.copy_(torch.eye(embed_dim))
    return attention


def test_multihead_by_hand():
    """Keys that are all alike share the weight: each token becomes the mean, head by head."""
    x = torch.tensor([[[0.0, 6.0], [0.0, 6.0]]])
    memory_values = torch.tensor([[[2.0, 0.0], [4.0, 2.0]]])
    attention = identity_attention(2, 2)
    # A position that cancels the memory makes all keys zero, and the values stay what they were.
    torch.testing.assert_close(
        attention(x, memory_values, pos=-memory_values), torch.tensor([[[3.0, 1.0], [3.0, 1.0]]])
    )
    # In self-attention one position serves queries and keys.
    torch.testing.assert_close(
        attention(memory_values, query_pos=-memory_values), torch.tensor([[[3.0, 1.0], [3.0, 1.0]]])
    )


def test_heads_do_not_mix():
    """The second head's query decides alone where the second head looks."""
    query = torch.tensor([[[0.0, 100.0]]])
    memory = torch.tensor([[[1.0, 0.0], [3.0, 1.0]]])
    torch.testing.assert_close(identity_attention(2, 2)(query, memory), torch.tensor([[[2.0, 1.0]]]))


def test_multihead_refuses():
    with pytest.raises(ValueError, match="embed_dim=10 is not a multiple of num_heads=4"):
        MultiHeadAttention(10, 4)
    with pytest.raises(ValueError, match="num_heads=0"):
        MultiHeadAttention(8, 0)
    x = normal(1, 2, 8)
    with pytest.raises(ValueError, match="pos belongs to memory"):
        MultiHeadAttention(8, 2)(x, pos=x)


def test_bias_can_be_left_out():
    assert not [name for name, _ in MultiHeadAttention(8, 2, bias=False).named_parameters() if "bias" in name]
    layers = Encoder(8, 2, 2, bias=False).layers
    assert not [name for name, _ in layers.named_parameters() if "bias" in name and ".attention." in name]

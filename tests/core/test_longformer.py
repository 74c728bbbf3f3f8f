"""Longformer's window is transformers', which has no core beneath it."""

import pytest
import torch
from torch import nn
from transformers.models.longformer.configuration_longformer import LongformerConfig
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

from core import LongformerAttention, MultiHeadAttention
from core.masks import padding_mask
from tests.core.helpers import assert_same, normal, randomise

WINDOW, WIDTH, HEADS = 8, 16, 2


def both() -> tuple[MultiHeadAttention, LongformerSelfAttention]:
    config = LongformerConfig(
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        attention_window=[WINDOW],
        num_hidden_layers=1,
        attention_probs_dropout_prob=0.0,
    )
    theirs = LongformerSelfAttention(config, layer_id=0)
    randomise(theirs)
    ours = MultiHeadAttention(WIDTH, HEADS, lambda: LongformerAttention(window_size=WINDOW))
    with torch.no_grad():
        for name in ("weight", "bias"):
            rows = [getattr(linear, name) for linear in (theirs.query, theirs.key, theirs.value)]
            getattr(ours.in_proj, name).copy_(torch.cat(rows))
        nn.init.eye_(ours.out_proj.weight)
    return ours, theirs


@pytest.mark.parametrize("dense_length", [0, 512], ids=["blocks", "dense"])
@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("length", [16, 80, 160])
def test_equals_transformers_without_global_tokens(length, padded, dense_length):
    ours, theirs = both()
    ours.attention.dense_length = dense_length
    x = normal(2, length, WIDTH)
    padding = padding_mask(torch.tensor([length, length - 5 if padded else length]), length)
    mask = torch.zeros(2, length).masked_fill(padding, -10000.0)
    nobody = torch.zeros_like(padding)
    (expected,) = theirs(
        x, attention_mask=mask, is_index_masked=padding, is_index_global_attn=nobody, is_global_attn=False
    )
    output = ours(x, key_padding_mask=padding if padded else None)
    assert_same(output[~padding], expected[~padding])

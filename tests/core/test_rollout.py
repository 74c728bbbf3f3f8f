"""Attention rollout (Abnar and Zuidema 2020, section 3) in numbers that a hand can derive."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core import Encoder
from core.explain import attention_rollout, record_attention
from tests.core.helpers import assert_same, normal

FIRST = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
SECOND = torch.tensor([[[[0.0, 1.0], [0.5, 0.5]]]])


def test_two_layers_of_two_tokens_by_hand():
    """A_1 = [[1, 0], [1/2, 1/2]] and A_2 = [[1/2, 1/2], [1/4, 3/4]]; the second layer's stands on the left."""
    expected = torch.tensor([[[0.75, 0.25], [0.625, 0.375]]])
    torch.testing.assert_close(attention_rollout([FIRST, SECOND]), expected)


def test_the_residual_can_be_left_out_or_be_all():
    torch.testing.assert_close(attention_rollout([FIRST, SECOND], residual=0.0), (SECOND @ FIRST)[:, 0])
    torch.testing.assert_close(attention_rollout([FIRST, SECOND], residual=1.0), torch.eye(2)[None])
    quarter = attention_rollout([FIRST], residual=0.25)
    torch.testing.assert_close(quarter, torch.tensor([[[1.0, 0.0], [0.75, 0.25]]]))


def test_heads_are_averaged():
    heads = torch.cat([FIRST, SECOND], dim=1)
    torch.testing.assert_close(attention_rollout([heads], residual=0.0), (FIRST + SECOND)[:, 0] / 2)


@given(st.integers(1, 4), st.integers(1, 5), st.floats(0, 1))
def test_rows_sum_to_one(layers, length, residual):
    weights = [normal(2, 3, length, length, seed=layer).softmax(-1) for layer in range(layers)]
    rolled = attention_rollout(weights, residual=residual)
    assert rolled.shape == (2, length, length)
    assert_same(rolled.sum(-1), torch.ones(2, length))


def test_what_was_recorded_can_be_rolled_out():
    """Through a causal encoder nothing reaches a token from its future."""
    encoder = Encoder(8, 2, 3)
    with record_attention(encoder) as recorded:
        encoder(normal(2, 5, 8), is_causal=True)
    rolled = attention_rollout([weights for (weights,) in recorded.values()])
    assert (rolled.triu(1) == 0).all()
    assert (rolled.tril() > 0).sum() == 2 * 15


@pytest.mark.parametrize(
    ("weights", "residual", "message"),
    [
        ([], 0.5, "at least one layer"),
        ([FIRST], 1.5, "residual=1.5"),
        ([FIRST], -0.1, "residual=-0.1"),
        ([torch.zeros(1, 1, 2, 3)], 0.5, r"weights\[0\]: .* 2 queries see 3"),
        ([FIRST, torch.zeros(1, 1, 2, 3)], 0.5, r"weights\[1\]: .* 2 queries see 3"),
        ([FIRST, torch.zeros(1, 1, 1, 1)], 0.5, r"weights\[1\]: .* 2 tokens .* 1 queries see 1"),
    ],
)
def test_refusals(weights, residual, message):
    with pytest.raises(ValueError, match=message):
        attention_rollout(weights, residual=residual)

"""Attention rollout (Abnar and Zuidema 2020, section 3) in numbers that a hand can derive."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from core import Attention, Encoder
from core.explain import AttentionCall, attention_rollout, record_attention
from core.masks import padding_mask
from tests.core.helpers import ATTENTIONS, assert_same, normal, with_each

FIRST = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
SECOND = torch.tensor([[[[0.0, 1.0], [0.5, 0.5]]]])


class Given(Attention):
    """Has the weights that it is given."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, q, k, v, *, key_padding_mask=None, attn_mask=None, is_causal=False):
        return self.weights @ v


def calls(*layers: Tensor) -> list[AttentionCall]:
    """Calls of layers with these weights."""
    return [
        AttentionCall(Given(each), torch.zeros(*each.shape[:3], 2), torch.zeros(*each.shape[:2], each.shape[3], 2), {})
        for each in layers
    ]


def whole(*layers: Tensor, residual: float = 0.5) -> Tensor:
    """The rollout of every token."""
    return attention_rollout(calls(*layers), torch.eye(layers[0].shape[2])[None], residual=residual)


def test_two_layers_of_two_tokens_by_hand():
    """A_1 = [[1, 0], [1/2, 1/2]] and A_2 = [[1/2, 1/2], [1/4, 3/4]]; the second layer's stands on the left."""
    expected = torch.tensor([[[0.75, 0.25], [0.625, 0.375]]])
    torch.testing.assert_close(whole(FIRST, SECOND), expected)
    mean = attention_rollout(calls(FIRST, SECOND), torch.tensor([[[0.5, 0.5]]]))
    torch.testing.assert_close(mean, torch.tensor([[[0.6875, 0.3125]]]))


def test_the_residual_can_be_left_out_or_be_all():
    torch.testing.assert_close(whole(FIRST, SECOND, residual=0.0), (SECOND @ FIRST)[:, 0])
    torch.testing.assert_close(whole(FIRST, SECOND, residual=1.0), torch.eye(2)[None])
    torch.testing.assert_close(whole(FIRST, residual=0.25), torch.tensor([[[1.0, 0.0], [0.75, 0.25]]]))


def test_heads_are_averaged():
    heads = torch.cat([FIRST, SECOND], dim=1)
    torch.testing.assert_close(whole(heads, residual=0.0), (FIRST + SECOND)[:, 0] / 2)


@given(st.integers(1, 4), st.integers(1, 5), st.floats(0, 1))
def test_rows_sum_to_one(layers, length, residual):
    weights = [normal(2, 3, length, length, seed=layer).softmax(-1) for layer in range(layers)]
    rolled = whole(*weights, residual=residual)
    assert rolled.shape == (2, length, length)
    assert_same(rolled.sum(-1), torch.ones(2, length))


@with_each(ATTENTIONS)
def test_it_is_the_product_of_the_layers_own_weights(attention):
    encoder = Encoder(8, 2, 3, attention=attention)
    with record_attention(encoder) as recorded:
        encoder(normal(2, 5, 8), key_padding_mask=padding_mask(torch.tensor([5, 3])))
    shares, expected = normal(1, 4, 5, seed=2), torch.eye(5)
    for (call,) in recorded.values():
        expected = (0.5 * call.weights().mean(1) + 0.5 * torch.eye(5)) @ expected
    assert_same(attention_rollout([call for (call,) in recorded.values()], shares), shares @ expected)


def test_nothing_reaches_a_token_from_its_future():
    encoder = Encoder(8, 2, 3)
    with record_attention(encoder) as recorded:
        encoder(normal(2, 5, 8), is_causal=True)
    rolled = attention_rollout([call for (call,) in recorded.values()], torch.eye(5)[None])
    assert (rolled.triu(1) == 0).all()
    assert (rolled.tril() > 0).sum() == 2 * 15


@pytest.mark.parametrize(
    ("weights", "residual", "message"),
    [
        ([], 0.5, "at least one layer"),
        ([FIRST], 1.5, "residual=1.5"),
        ([FIRST], -0.1, "residual=-0.1"),
        ([torch.zeros(1, 1, 2, 3)], 0.5, r"calls\[0\]: .* 2 queries see 3"),
        ([FIRST, torch.zeros(1, 1, 2, 3)], 0.5, r"calls\[1\]: .* 2 queries see 3"),
        ([FIRST, torch.zeros(1, 1, 1, 1)], 0.5, r"calls\[1\]: .* 2 tokens .* 1 queries see 1"),
    ],
)
def test_refusals(weights, residual, message):
    with pytest.raises(ValueError, match=message):
        attention_rollout(calls(*weights), torch.eye(2)[None], residual=residual)

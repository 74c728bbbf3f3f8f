"""Short attention is SDPA's, in numbers and gradients, and is taken only where nothing is masked."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from core import FullAttention
from core.attention import short
from core.attention.short import LENGTHS, WIDEST, is_short, short_attention


def inputs(batch, heads, query_len, key_len, head_dim, *, seed=0):
    """Laid out as the core has them: heads side by side in a token."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(batch, length, heads, head_dim, generator=generator).transpose(1, 2).requires_grad_()
        for length in (query_len, key_len, key_len)
    ]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5), st.integers(1, 3), st.integers(1, 40), st.integers(1, 40), st.integers(1, WIDEST))
def test_numbers_and_gradients_are_sdpas(batch, heads, query_len, key_len, head_dim):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(short, "CHUNK", 3 * query_len * key_len)  # several chunks, the last one shorter
        ours, theirs = (
            inputs(batch, heads, query_len, key_len, head_dim),
            inputs(batch, heads, query_len, key_len, head_dim),
        )
        out, expected = short_attention(*ours), F.scaled_dot_product_attention(*theirs)
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
        grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
        out.backward(grad)
        expected.backward(grad)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_full_attention_takes_it_for_narrow_heads(monkeypatch):
    taken = []
    monkeypatch.setattr("core.attention.full.short_attention", lambda *qkv: taken.append(1) or short_attention(*qkv))
    attention, length = FullAttention(), LENGTHS[0]
    q, k, v = inputs(1, 2, length, length, WIDEST)
    attention(q, k, v)
    assert taken == [1]
    attention(q, k, v, is_causal=True)
    attention(q, k, v, key_padding_mask=torch.zeros(1, length, dtype=torch.bool))
    attention(q, k, v, attn_mask=torch.zeros(length, length, dtype=torch.bool))
    FullAttention(dropout=0.5)(q, k, v)
    attention(*inputs(1, 2, length, length, WIDEST + 1))
    attention(*inputs(1, 2, length, LENGTHS[-1] + 1, WIDEST))
    assert taken == [1]
    assert not is_short(*[x.double() for x in (q, k)])


def test_torchs_functional_gradients_go_by_sdpa():
    q, k, v = (x.detach() for x in inputs(1, 1, 16, 16, 4))
    gradient = torch.func.grad(lambda q: FullAttention()(q, k, v).square().sum())(q)
    q = q.clone().requires_grad_()
    FullAttention()(q, k, v).square().sum().backward()
    torch.testing.assert_close(gradient, q.grad, rtol=1e-4, atol=1e-5)

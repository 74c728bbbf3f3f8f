"""Rotary positions: RoFormer's rotation, and what follows from it."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from core import Encoder, MultiHeadAttention, RotaryPositionalEncoding
from tests.core.helpers import assert_same, normal, randomise

WIDTHS = st.sampled_from([2, 4, 6, 16])


def turned(x: Tensor, positions: Tensor, base: float = 10_000.0) -> Tensor:
    """Su et al. 2021, section 3.2, a pair of channels as one complex number, in double precision."""
    frequencies = base ** (-torch.arange(0, x.shape[-1], 2, dtype=torch.float64) / x.shape[-1])
    angles = positions[:, None, :, None] * frequencies
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


@given(WIDTHS, st.sampled_from([100.0, 10_000.0]), st.sampled_from([1, 2]), st.integers(0, 2**16))
def test_pairs_are_turned_as_complex_numbers(head_dim, base, rows, seed):
    x, positions = normal(2, 3, 5, head_dim, seed=seed), torch.randint(0, 2000, (rows, 5))
    rotated = RotaryPositionalEncoding(head_dim, base=base)(x, positions)
    assert_same(rotated.double(), turned(x, positions, base), 2e-3)  # 2000 radians have 1e-4 in float32


def test_it_is_roformers():
    roformer = pytest.importorskip("transformers.models.roformer.modeling_roformer")
    apply = getattr(roformer.RoFormerSelfAttention, "apply_rotary_position_embeddings", None)
    if apply is None:
        pytest.skip("this release of transformers has another RoFormerSelfAttention")
    q, k, positions = normal(2, 3, 7, 8), normal(2, 3, 7, 8, seed=2), torch.arange(7)[None]
    angles = positions[0, :, None] / 10_000 ** (torch.arange(0, 8, 2) / 8)
    expected = apply(torch.cat([angles.sin(), angles.cos()], -1)[None, None], q, k)
    rotary = RotaryPositionalEncoding(8)
    for actual, its in zip((rotary(q, positions), rotary(k, positions)), expected, strict=True):
        assert_same(actual, its)


def test_a_turn_by_hand():
    """At base 1 every pair turns by one radian a position."""
    x = torch.tensor([[[[1.0, 0.0, 0.0, 1.0]]]])
    turned_twice = RotaryPositionalEncoding(4, base=1.0)(x, torch.tensor([[2]]))
    expected = [math.cos(2), math.sin(2), -math.sin(2), math.cos(2)]
    assert_same(turned_twice[0, 0, 0], torch.tensor(expected))


@given(WIDTHS, st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_a_product_knows_the_distance_only(head_dim, query, key, shift):
    rotary, q, k = RotaryPositionalEncoding(head_dim), normal(1, 1, 1, head_dim), normal(1, 1, 1, head_dim, seed=2)

    def product(a: int, b: int) -> Tensor:
        return (rotary(q, torch.tensor([[a]])) * rotary(k, torch.tensor([[b]]))).sum()

    assert_same(product(query + shift, key + shift), product(query, key), 2e-4)
    assert_same(rotary(q, torch.tensor([[query]])).norm(), q.norm())


def test_distances_are_told_apart():
    rotary, one = RotaryPositionalEncoding(4), torch.ones(1, 1, 50, 4)
    products = (rotary(one, torch.arange(50)[None]) * rotary(one, torch.zeros(1, 50).long())).sum(-1)
    assert len(products[0, 0].round(decimals=4).unique()) == 50


def test_low_precision_turns_exactly_at_large_positions():
    """The angle is counted in float32: bfloat16 knows no position 1001, and takes it for 1000."""
    x, positions = normal(1, 2, 3, 8), torch.tensor([[1000, 1001, 30_001]])
    rotary = RotaryPositionalEncoding(8).bfloat16()
    low = rotary(x.bfloat16(), positions)
    assert low.dtype == torch.bfloat16
    assert torch.equal(low, rotary(x.bfloat16().float(), positions).bfloat16())
    assert_same(low.float(), turned(x, positions).float(), 3e-2)


def test_attention_turns_queries_and_keys_but_no_values():
    attention = MultiHeadAttention(8, 2, rotary=RotaryPositionalEncoding)
    randomise(attention)
    plain, x = MultiHeadAttention(8, 2), normal(2, 5, 8)
    plain.load_state_dict(attention.state_dict())  # a rotary encoding has no weights
    q, k, v = (part.unflatten(2, (2, 4)).transpose(1, 2) for part in attention.in_proj(x).chunk(3, -1))
    q, k = (turned(part, torch.arange(5)[None]).float() for part in (q, k))
    mixed = (q @ k.transpose(2, 3) / 2).softmax(-1) @ v
    assert_same(attention(x), attention.out_proj(mixed.transpose(1, 2).flatten(2)))
    assert (attention(x) - plain(x)).abs().max() > 1e-2
    assert_same(attention(x, x), plain(x, x))  # encoder-decoder attention has no common positions


def test_every_layer_turns():
    encoder = Encoder(8, 2, 2, rotary=RotaryPositionalEncoding)
    assert len([module for module in encoder.modules() if isinstance(module, RotaryPositionalEncoding)]) == 2
    assert encoder.layers[0].attention.rotary.head_dim == 4


def test_an_odd_width_is_refused():
    with pytest.raises(ValueError, match="head_dim=3 "):
        RotaryPositionalEncoding(3)
    with pytest.raises(ValueError, match="head_dim=3 "):
        MultiHeadAttention(6, 2, rotary=RotaryPositionalEncoding)

"""Memory grows with the length as promised: what is kept for the backward pass, and what decoding keeps."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import core.linear
from core import (
    FixedSparseAttention,
    LinearAttention,
    LongformerAttention,
    MultiHeadAttention,
    RotaryPositionalEncoding,
    SparseAttention,
)
from core.attention import Attention
from core.cache import Cache, Past
from tests.core.helpers import normal


def kept_for_backward(call: Callable[[], object]) -> int:
    """Bytes, each memory counted once."""
    sizes: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        call()
    return sum(sizes.values())


def kept_by(attention: Attention, length: int, is_causal: bool) -> int:
    q, k, v = (normal(1, 2, length, 8, seed=seed).requires_grad_() for seed in range(3))
    return kept_for_backward(lambda: attention(q, k, v, is_causal=is_causal))


MECHANISMS = {
    "sparse": lambda: SparseAttention(stride=16),
    "fixed": lambda: FixedSparseAttention(stride=16, summary_size=1),
    "linear": LinearAttention,
    "longformer": lambda: LongformerAttention(window_size=32, num_global_tokens=2),
    "dilated": lambda: LongformerAttention(window_size=32, num_global_tokens=2, dilation=3),
}


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("make", MECHANISMS.values(), ids=MECHANISMS)
def test_what_is_kept_for_the_backward_pass_is_linear_in_the_length(make: Callable[[], Attention], is_causal):
    tokens = 3 * 2 * 2048 * 8 * 4  # q, k and v
    shorter, longer = (kept_by(make(), length, is_causal) for length in (1024, 2048))
    assert longer < 2.1 * shorter
    assert longer < 2.5 * tokens  # no scores: they would be 32 times a token's 8 channels


@pytest.mark.parametrize("is_onednn", [False, True], ids=["mkl", "onednn"])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("length", [1024, 1000])
@pytest.mark.parametrize("make", MECHANISMS.values(), ids=MECHANISMS)
def test_between_projections_no_more_is_kept_than_by_full_attention(
    make: Callable[[], Attention], length: int, batch: int, is_onednn: bool, monkeypatch: pytest.MonkeyPatch
):
    """The fused kernel keeps queries, keys, values and output: a copy of some of them would be the double.

    By either product of `core.linear`, whichever this processor prefers: they keep their input, or a copy of it.
    """
    monkeypatch.setattr(
        core.linear, "prefers_onednn", lambda: is_onednn and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
    x = normal(batch, length, 32)
    kept = [
        kept_for_backward(lambda each=each: each(x))
        for each in (MultiHeadAttention(32, 2, make), MultiHeadAttention(32, 2))
    ]
    assert kept[0] < 1.15 * kept[1]  # 1.12 of it where a sequence ends in an unfinished block of 96


def test_a_rotary_encoding_keeps_its_turns_and_nothing_else():
    """Neither what queries and keys were before they were turned, nor them in another order than the values."""
    x, length = normal(1, 64, 32), 64
    plain, rotary = MultiHeadAttention(32, 2), MultiHeadAttention(32, 2, rotary=RotaryPositionalEncoding)
    turns = 4 * length * (32 // 2 // 2) * 4  # sines and cosines, of queries and of keys
    assert kept_for_backward(lambda: rotary(x)) <= kept_for_backward(lambda: plain(x)) + turns
    q = x.view(1, 64, 2, 16).transpose(1, 2)
    assert RotaryPositionalEncoding(16)(q, torch.arange(64)[None]).stride() == q.stride()


def bytes_of(cache: Cache) -> int:
    return sum(x.numel() * x.element_size() for x in vars(cache).values() if isinstance(x, Tensor))


@pytest.mark.parametrize(
    "make", [LinearAttention, lambda: LongformerAttention(window_size=4, num_global_tokens=1)], ids=["linear", "window"]
)
def test_what_decoding_keeps_does_not_grow(make: Callable[[], Attention]):
    attention = make()
    cache, past, sizes = attention.make_cache(), Past(), set()
    for step in range(40):
        q, k, v = (normal(2, 2, 1, 8, seed=3 * step + part) for part in range(3))
        attention.decode(q, k, v, cache, past)
        past = past.advance(1, None)
        sizes.add(bytes_of(cache))
    assert len(sizes) == 1

"""Attention weights are those that the fast path mixes with, and looking changes nothing."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from core import (
    Decoder,
    Encoder,
    FixedSparseAttention,
    FullAttention,
    LinearAttention,
    LongformerAttention,
    MultiHeadAttention,
    Packing,
    SparseAttention,
)
from core.attention import Attention
from core.explain import AttentionCall, attention_rollout, each_sequence, record_attention
from core.masks import combine_masks, padding_mask
from tests.core.helpers import (
    ATTENTIONS,
    CAUSAL,
    CROSS,
    assert_same,
    attention_pairs,
    copy_over,
    normal,
    randomise,
    serves,
    with_each,
)

PADDING, MEMORY_PADDING = padding_mask(torch.tensor([5, 2])), padding_mask(torch.tensor([3, 7]))
X, MEMORY = normal(2, 5, 8), normal(2, 7, 8, seed=2)


@with_each(ATTENTIONS)
@given(data=st.data(), head_dim=st.sampled_from([1, 2, 3, 4]), padded=st.booleans(), masked=st.booleans())
def test_weights_times_values_is_the_fast_path(attention, data, head_dim, padded, masked):
    """With every mask that the mechanism honours, for numbers of keys that are no multiple of the width of a head.

    And their rows, which are asked for backwards, are theirs.
    """
    key_len = data.draw(st.integers(1, 7))
    is_causal = serves(attention, query_len=2, key_len=2, is_causal=True) and data.draw(st.booleans())
    to_itself = not serves(attention, query_len=2, key_len=3, is_causal=False)
    query_len = key_len if to_itself else data.draw(st.integers(1, key_len if is_causal else 7))
    mechanism = attention()
    q, k, v = normal(2, 3, query_len, head_dim), *normal(2, 2, 3, key_len, head_dim, seed=2)
    masks: dict = {"is_causal": True} if is_causal else {}
    if padded:
        masks["key_padding_mask"] = padding_mask(torch.tensor([key_len - 1, key_len]))
        v = v.masked_fill(masks["key_padding_mask"][:, None, :, None], 100.0)
        k = k.masked_fill(masks["key_padding_mask"][:, None, :, None], math.nan)
    if masked and honours_attn_mask(attention):
        masks["attn_mask"] = normal(query_len, key_len) > 0
    call = AttentionCall(mechanism, q, k, masks)
    weights = call.weights()
    shares = normal(data.draw(st.sampled_from([1, 2])), data.draw(st.integers(0, 9)), query_len, seed=3)
    assert_same(call.rows(shares), shares[:, None] @ weights)
    assert weights.shape == (2, 3, query_len, key_len)
    assert_same(weights @ v, mechanism(q, k, v, **masks))
    blocked = combine_masks(query_len, key_len, **masks)
    blocked = torch.zeros(1, 1, 1, key_len, dtype=torch.bool) if blocked is None else blocked
    assert (weights[blocked.expand_as(weights)] == 0).all()
    sees_something = (weights != 0).any(-1)  # a sparse pattern may leave a query with padding alone
    assert_same(weights.sum(-1), sees_something.float())


def honours_attn_mask(attention) -> bool:
    q = torch.zeros(1, 1, 2, 2)
    try:
        attention()(q, q, q, attn_mask=torch.eye(2, dtype=torch.bool))
    except ValueError:
        return False
    return True


def test_weights_are_those_of_torch():
    """For self-attention and for cross-attention, each head by itself."""
    theirs, ours = nn.MultiheadAttention(8, 2, batch_first=True), MultiHeadAttention(8, 2)
    randomise(theirs)
    copy_over(attention_pairs(ours, theirs))
    with record_attention(ours) as recorded:
        ours(X, query_pos=normal(1, 5, 8, seed=4), key_padding_mask=PADDING)
        ours(X, MEMORY, key_padding_mask=MEMORY_PADDING)
    asked = X + normal(1, 5, 8, seed=4)
    _, to_itself = theirs(asked, asked, X, key_padding_mask=PADDING, average_attn_weights=False)
    _, to_memory = theirs(X, MEMORY, MEMORY, key_padding_mask=MEMORY_PADDING, average_attn_weights=False)
    (weights,) = recorded.values()
    assert len(weights) == 2
    assert_same(weights[0].weights(), to_itself)
    assert_same(weights[1].weights(), to_memory)


def decode(decoder: nn.Module) -> torch.Tensor:
    return decoder(X, MEMORY, key_padding_mask=PADDING, memory_key_padding_mask=MEMORY_PADDING)


@with_each(CAUSAL)
@with_each(CROSS, "cross_attention")
def test_a_decoder_shows_where_it_looks(attention, cross_attention):
    decoder = Decoder(8, 2, 2, attention=attention, cross_attention=cross_attention).eval()
    with record_attention(decoder) as recorded:
        decode(decoder)
    kinds = ("attention", "cross_attention")
    assert list(recorded) == [f"layers.{layer}.{kind}" for layer in range(2) for kind in kinds]
    for name, (call,) in recorded.items():
        weights = call.weights()
        assert weights.shape == (2, 2, 5, 7 if "cross" in name else 5)
        sums = weights.sum(-1).transpose(1, 2)[~PADDING]  # padding may see nothing but padding
        assert_same(sums, torch.ones_like(sums))
        padding = MEMORY_PADDING if "cross" in name else PADDING
        assert (weights.transpose(1, 3)[padding] == 0).all()
        if "cross" not in name:
            assert (weights.triu(1) == 0).all()


@with_each(ATTENTIONS)
def test_layers_can_be_chosen(attention):
    encoder = nn.Sequential(Encoder(8, 4, 3, attention=attention))
    with record_attention(encoder) as everything:
        encoder(X)
    with record_attention(encoder, layers=["0.layers.2.attention", "0.layers.0.attention"]) as chosen:
        encoder(X)
    assert list(chosen) == ["0.layers.2.attention", "0.layers.0.attention"]
    for name, (call,) in chosen.items():
        assert torch.equal(call.weights(), everything[name][0].weights())
    with record_attention(encoder, layers=[]) as nothing:
        encoder(X)
    assert nothing == {}


def test_an_unknown_layer_is_named():
    with (
        pytest.raises(ValueError, match=r"'layers\.2\.attention' .* there are layers\.0\.attention, layers\.1\.atten"),
        record_attention(Encoder(8, 2, 2), layers=["layers.0.attention", "layers.2.attention"]),
    ):
        pass


def recordings_left(model: nn.Module) -> list:
    return [hook for module in model.modules() for hook in module._forward_hooks.values()]


@with_each([*CAUSAL, partial(FullAttention, dropout=0.5)])
def test_the_model_computes_what_it_would_compute(attention):
    """To the last bit, dropout and gradients too, and it is left as it was found."""
    decoder = Decoder(8, 2, 2, dropout=0.2, attention=attention)
    decoder.layers[0].eval()
    modes = [module.training for module in decoder.modules()]
    results = []
    for layers in ([], None):
        torch.manual_seed(0)
        with record_attention(decoder, layers=layers) as recorded:
            output = decode(decoder)
        results.append([output, *torch.autograd.grad(output.square().sum(), list(decoder.parameters()))])
    assert all(map(torch.equal, *results))
    assert [module.training for module in decoder.modules()] == modes
    assert not recordings_left(decoder)
    for name, (call,) in recorded.items():
        weights = call.weights()
        assert not weights.requires_grad, name
        assert not call.rows(torch.eye(call.q.shape[2])[None]).requires_grad, name
        sums = weights.sum(-1).transpose(1, 2)[~PADDING]
        assert_same(sums, torch.ones_like(sums))  # the weights are those without dropout


def test_nothing_stays_behind_after_an_exception():
    encoder = Encoder(8, 2, 2)
    with pytest.raises(KeyboardInterrupt), record_attention(encoder):
        raise KeyboardInterrupt
    assert not recordings_left(encoder)

    class Failing(FullAttention):
        def forward(self, q, k, v, **masks):
            if not self.training:
                raise ValueError("only in training")
            return super().forward(q, k, v, **masks)

    failing = Failing()
    call = AttentionCall(failing, normal(1, 1, 2, 2), normal(1, 1, 2, 2), {})
    for ask in (call.weights, lambda: call.rows(torch.eye(2)[None])):
        with pytest.raises(ValueError, match="only in training"):
            ask()
        assert failing.training


@with_each(ATTENTIONS)
def test_packed_sequences_are_recorded_one_by_one(attention):
    encoder, padding, x = Encoder(8, 2, 2, attention=attention), padding_mask(torch.tensor([5, 0, 2])), normal(3, 5, 8)
    packing = Packing(padding)
    with record_attention(encoder) as padded:
        encoder(x, key_padding_mask=padding)
    with record_attention(encoder) as packed:
        encoder(packing.pack(x), packing=packing)
    for name, calls in packed.items():
        for call, row, length in zip(each_sequence(calls), (0, 2), (5, 2), strict=True):  # the empty one has none
            alone = each_sequence(padded[name])[row]
            assert_same(call.weights(), alone.weights()[:, :, :length, :length])
            shares = normal(1, 3, length)
            widened = torch.nn.functional.pad(shares, (0, 5 - length))
            assert_same(call.rows(shares), alone.rows(widened)[..., :length])


@with_each(ATTENTIONS)
def test_what_was_recorded_in_inference_mode_can_be_asked(attention):
    """Where Lightning predicts, no tensor may take part in a backward pass."""
    encoder = Encoder(8, 2, 1, attention=attention)
    with torch.inference_mode(), record_attention(encoder) as recorded:
        x = normal(2, 5, 8)
        encoder(x, key_padding_mask=padding_mask(torch.tensor([5, 2])))
        (call,) = recorded["layers.0.attention"]
        shares = normal(1, 3, 5)
        assert_same(call.rows(shares), shares[:, None] @ call.weights())
    assert len(recorded["layers.0.attention"]) == 1, "what asks is not recorded"


def test_cross_attention_is_recorded_in_cached_decoding():
    """A row a step; what a cache shows of self-attention is left to decoding without one."""
    decoder = Decoder(8, 2, 2).eval()
    with record_attention(decoder) as whole:
        decode(decoder)
    cache = decoder.make_cache()
    with torch.no_grad(), record_attention(decoder) as steps:
        for step in range(5):
            decoder(X[:, step : step + 1], MEMORY, memory_key_padding_mask=MEMORY_PADDING, cache=cache)
    assert not steps["layers.1.attention"]
    rows = torch.cat([call.weights() for call in steps["layers.1.cross_attention"]], dim=2)
    assert_same(rows[0], whole["layers.1.cross_attention"][0].weights()[0])


def test_a_checkpointed_layer_is_recorded_again_in_the_backward_pass():
    encoder = Encoder(8, 2, 2, checkpoint_activations=True)
    with record_attention(encoder) as recorded:
        encoder(X).sum().backward()
    for calls in recorded.values():
        assert torch.equal(*(call.weights() for call in calls))


class Largest(TorchDispatchMode):
    """Finds the most numbers that a tensor has of all that are made."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, list | tuple) else [made]:
            if isinstance(each, torch.Tensor):
                self.most = max(self.most, each.untyped_storage().nbytes() // each.element_size())
        return made


@with_each(
    [
        FullAttention,
        LinearAttention,
        partial(SparseAttention, stride=32),
        partial(FixedSparseAttention, stride=32, summary_size=2),
        partial(LongformerAttention, window_size=32, num_global_tokens=1),
    ]
)
def test_rows_and_rollout_of_long_sequences_take_memory_linear_in_their_length(attention):
    """Nothing near the 16 million weights of 4,096 tokens is ever made."""
    encoder, length = Encoder(8, 2, 2, attention=attention), 4096
    with torch.no_grad(), record_attention(encoder) as recorded:
        encoder(normal(1, length, 8))
    calls = [call for (call,) in recorded.values()]
    reading = torch.full((1, 1, length), 1 / length)
    with Largest() as found:
        rolled = attention_rollout(calls, reading)
    assert_same(rolled.sum(), torch.ones(()), 1e-3)
    assert length * 4 <= found.most < length**2 / 20


def test_a_mechanism_of_ones_own_is_explained_too():
    class Mean(Attention):
        def forward(self, q, k, v, *, key_padding_mask=None, attn_mask=None, is_causal=False):
            return v.mean(2, keepdim=True).expand_as(q)

    with record_attention(MultiHeadAttention(8, 2, Mean)) as recorded:
        pass
    assert list(recorded) == ["attention"]
    call = AttentionCall(Mean(), normal(1, 1, 3, 2), normal(1, 1, 3, 2), {})
    assert_same(call.weights(), torch.full((1, 1, 3, 3), 1 / 3))
    assert_same(call.rows(torch.eye(3)[None]), torch.full((1, 1, 3, 3), 1 / 3))

"""What encoder, decoder and attention cannot honour they refuse, naming it: nothing is accepted and ignored."""

from functools import partial

import jaxtyping
import pytest
import torch

from core import Attention, Decoder, Encoder, FullAttention, MultiHeadAttention, Packing
from core.masks import padding_mask
from tests.core.helpers import normal

PADDING = padding_mask(torch.tensor([3, 1]))
PACKING = Packing(PADDING)
X, MEMORY, PACKED = normal(2, 3, 8), normal(2, 3, 8, seed=2), normal(1, 4, 8)
BLOCKED = torch.ones(3, 3, dtype=torch.bool).triu(1)


@pytest.fixture
def no_shape_checks():
    """As outside of the tests, where a wrong shape reaches the code and only its own words explain it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    ("has_memory", "arguments", "message"),
    [
        (True, {}, "memory is missing"),
        (False, {"memory": MEMORY}, "memory was given"),
        (False, {"pos": MEMORY}, "belong to memory"),
        (False, {"memory_key_padding_mask": PADDING}, "belong to memory"),
        (False, {"memory_packing": PACKING}, "belong to memory"),
        (False, {"packing": PACKING}, r"4 tokens, so x must be \(1, 4, \.\.\.\), but it is \(2, 3, 8\)"),
        (False, {"x": PACKED, "packing": PACKING, "key_padding_mask": PADDING}, "give packing alone"),
        (False, {"x": PACKED, "packing": PACKING, "attn_mask": BLOCKED}, "give packing alone"),
        (True, {"x": PACKED, "packing": PACKING, "memory": MEMORY}, "both packed, or neither"),
        (True, {"memory": PACKED, "memory_packing": PACKING}, "both packed, or neither"),
        (True, {"memory": MEMORY, "memory_packing": PACKING}, r"must be \(1, 4, \.\.\.\), but it is \(2, 3, 8\)"),
        (
            True,
            {
                "x": PACKED,
                "packing": PACKING,
                "memory": PACKED,
                "memory_packing": PACKING,
                "memory_key_padding_mask": PADDING,
            },
            "give packing alone",
        ),
    ],
)
def test_decoder_refuses(no_shape_checks, has_memory, arguments, message):
    decoder = Decoder(8, 2, 1, cross_attention=FullAttention if has_memory else None)
    with pytest.raises(ValueError, match=message):
        decoder(**{"x": X} | arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attn_mask": BLOCKED}, "no attn_mask"),
        ({"x": PACKED, "packing": PACKING}, "no packing"),
        ({"is_causal": False}, "is_causal=True"),
        ({"key_padding_mask": PADDING.flip(1)}, "padding stands behind"),
        ({"key_padding_mask": torch.tensor([[False, True, False]] * 2)}, "padding stands behind"),
    ],
)
def test_a_cache_refuses(arguments, message):
    decoder = Decoder(8, 2, 1, cross_attention=None)
    with torch.no_grad(), pytest.raises(ValueError, match=message):
        decoder(**{"x": X} | arguments, cache=decoder.make_cache())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"packing": PACKING}, r"4 tokens, so x must be \(1, 4, \.\.\.\), but it is \(2, 3, 8\)"),
        ({"x": PACKED, "packing": PACKING, "key_padding_mask": PADDING}, "give packing alone"),
        ({"x": PACKED, "packing": PACKING, "attn_mask": BLOCKED}, "give packing alone"),
        ({"x": PACKED, "packing": PACKING, "num_outputs": 1}, "num_outputs=1"),
    ],
)
def test_encoder_refuses(no_shape_checks, arguments, message):
    with pytest.raises(ValueError, match=message):
        Encoder(8, 2, 1)(**{"x": X} | arguments)


FOUR_SEQUENCES = Packing(torch.zeros(4, 1, dtype=torch.bool))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pos": X}, "pos belongs to memory"),
        ({"memory_packing": PACKING}, "memory_packing belongs to memory"),
        ({"packing": PACKING}, "4 tokens"),
        ({"memory": X, "packing": PACKING}, "both packed, or neither"),
        ({"memory": X, "memory_packing": PACKING}, "both packed, or neither"),
        ({"memory": PACKED, "packing": PACKING, "memory_packing": PACKING}, "4 tokens"),
        ({"query": PACKED, "packing": PACKING, "key_padding_mask": PADDING}, "give packing alone"),
        ({"query": PACKED, "packing": PACKING, "attn_mask": BLOCKED}, "give packing alone"),
        (
            {"query": PACKED, "memory": PACKED, "packing": PACKING, "memory_packing": PACKING, "attn_mask": BLOCKED},
            "give packing alone",
        ),
        (
            {"query": PACKED, "memory": PACKED, "packing": PACKING, "memory_packing": FOUR_SEQUENCES},
            "packing has 2 sequences, memory_packing 4",
        ),
    ],
)
def test_multihead_attention_refuses(no_shape_checks, arguments, message):
    with pytest.raises(ValueError, match=message):
        MultiHeadAttention(8, 2)(**{"query": X} | arguments)


class OnlyToItself(FullAttention):
    """A mechanism that cannot attend between sequences of unequal length."""

    def forward(self, q, k, v, **masks):
        if q.shape[2] != k.shape[2]:
            raise ValueError(f"query_len={q.shape[2]} is not key_len={k.shape[2]}")
        return super().forward(q, k, v, **masks)


class OnlyBothWays(FullAttention):
    """A mechanism that cannot leave the future out."""

    def forward(self, q, k, v, **masks):
        if masks.get("is_causal"):
            raise ValueError("is_causal: this mechanism sees the future")
        return super().forward(q, k, v, **masks)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cross_attention": OnlyToItself}, "query_len=2 is not key_len=3"),
        ({"attention": OnlyBothWays}, "sees the future"),
        ({"num_layers": 0}, "num_layers=0"),
        ({"num_heads": 3}, "embed_dim=8 .*num_heads=3"),
        ({"ffn_dim": 0}, "ffn_dim=0"),
        ({"dropout": 1.5}, "dropout .*1.5"),
    ],
)
def test_what_cannot_serve_is_refused_when_the_decoder_is_built(arguments, message):
    with pytest.raises(ValueError, match=message):
        Decoder(**{"embed_dim": 8, "num_heads": 2, "num_layers": 1} | arguments)


def test_what_serves_elsewhere_is_not_refused():
    decoder = Decoder(8, 2, 1, attention=OnlyToItself, cross_attention=OnlyBothWays)
    assert decoder(X, MEMORY[:, :2]).shape == X.shape


def test_trying_out_draws_nothing():
    """Else a seed would give other weights where attention has dropout."""
    weights = []
    for dropout in (0.0, 0.5):
        torch.manual_seed(0)
        decoder = Decoder(8, 2, 2, attention=partial(FullAttention, dropout=dropout))
        assert all(module.training for module in decoder.modules())
        weights.append(list(decoder.parameters()))
    assert all(map(torch.equal, *weights))


def test_each_layer_has_its_own_attentions():
    mechanisms = [module for module in Decoder(8, 2, 3).modules() if isinstance(module, Attention)]
    assert len({id(mechanism) for mechanism in mechanisms}) == len(mechanisms) == 6


def test_widths_and_norms():
    layer = Decoder(8, 2, 1).layers[0]
    assert layer.feedforward.linear1.out_features == 32
    assert Decoder(8, 2, 1, 10).layers[0].feedforward.linear1.out_features == 10
    norms = [m for m in Decoder(8, 2, 1, norm=torch.nn.RMSNorm).modules() if isinstance(m, torch.nn.RMSNorm)]
    assert len(norms) == 4  # one a sublayer and the last
    assert isinstance(Decoder(8, 2, 1, norm_first=False).norm, torch.nn.Identity)
    unbiased = [name for name, _ in Decoder(8, 2, 2, bias=False).named_parameters() if "proj.bias" in name]
    assert not unbiased

"""The decoder against torch's own and against DETR's, and what it promises about padding."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from core import Decoder, DecoderLayer, Encoder
from core.masks import padding_mask
from tests.core.helpers import (
    CAUSAL,
    CROSS,
    assert_all_same,
    assert_same,
    attention_pairs,
    copy_over,
    gradients,
    normal,
    randomise,
    weighed,
    with_each,
)

EMBED_DIM, NUM_HEADS, NUM_LAYERS, FFN_DIM = 16, 4, 3, 24

pre_and_post_norm = pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])


def layer_pairs(ours: DecoderLayer, theirs: nn.TransformerDecoderLayer) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
    assert ours.cross_attention is not None
    yield from attention_pairs(ours.attention, theirs.self_attn)
    yield from attention_pairs(ours.cross_attention, theirs.multihead_attn)
    for mine, its in [
        (ours.attention_residual, theirs.norm1),
        (ours.cross_attention_residual, theirs.norm2),
        (ours.feedforward.linear1, theirs.linear1),
        (ours.feedforward.linear2, theirs.linear2),
        (ours.feedforward_residual, theirs.norm3),
    ]:
        assert mine is not None
        yield from zip(mine.parameters(), its.parameters(), strict=True)


def decoder_pairs(ours: Decoder, theirs: nn.TransformerDecoder) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
    for mine, its in zip(ours.layers, theirs.layers, strict=True):
        assert isinstance(mine, DecoderLayer)
        assert isinstance(its, nn.TransformerDecoderLayer)
        yield from layer_pairs(mine, its)
    if theirs.norm is not None:
        yield from zip(ours.norm.parameters(), theirs.norm.parameters(), strict=True)


def pair(norm_first: bool) -> tuple[Decoder, nn.TransformerDecoder]:
    """Our decoder and torch's with the same random weights."""
    layer = nn.TransformerDecoderLayer(
        EMBED_DIM, NUM_HEADS, FFN_DIM, dropout=0.0, batch_first=True, norm_first=norm_first
    )
    theirs = nn.TransformerDecoder(layer, NUM_LAYERS, norm=nn.LayerNorm(EMBED_DIM) if norm_first else None)
    randomise(theirs)
    ours = Decoder(EMBED_DIM, NUM_HEADS, NUM_LAYERS, FFN_DIM, activation=nn.ReLU, norm_first=norm_first)
    copy_over(decoder_pairs(ours, theirs))
    assert len(list(decoder_pairs(ours, theirs))) == len(list(ours.parameters())) == len(list(theirs.parameters()))
    return ours, theirs


@pytest.mark.parametrize("memory_padded", [False, True], ids=["memory whole", "memory padded"])
@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("is_causal", [False, True], ids=["full", "causal"])
@pre_and_post_norm
def test_decoder_is_that_of_torch(norm_first, is_causal, padded, memory_padded):
    """Outputs at real tokens, and gradients of all parameters and of both inputs."""
    ours, theirs = pair(norm_first)
    x, memory = normal(3, 5, EMBED_DIM).requires_grad_(), normal(3, 6, EMBED_DIM, seed=2).requires_grad_()
    padding = padding_mask(torch.tensor([5, 3, 1])) if padded else None
    memory_padding = padding_mask(torch.tensor([2, 6, 1])) if memory_padded else None
    blocked = torch.ones(5, 5, dtype=torch.bool).triu(1) if is_causal else None
    expected = theirs(x, memory, tgt_mask=blocked, tgt_key_padding_mask=padding, memory_key_padding_mask=memory_padding)
    masks = {"key_padding_mask": padding, "memory_key_padding_mask": memory_padding}
    real = torch.ones(3, 5, dtype=torch.bool) if padding is None else ~padding
    for flags in ({"is_causal": is_causal}, {"is_causal": False, "attn_mask": blocked}):
        actual = ours(x, memory, **masks, **flags)
        assert_same(actual[real], expected[real])
        assert_all_same(
            list(torch.autograd.grad(weighed(actual[real]), (x, memory), retain_graph=True)),
            list(torch.autograd.grad(weighed(expected[real]), (x, memory), retain_graph=True)),
        )
        pairs = list(decoder_pairs(ours, theirs))
        assert_all_same(
            list(torch.autograd.grad(weighed(actual[real]), [mine for mine, _ in pairs])),
            list(torch.autograd.grad(weighed(expected[real]), [its for _, its in pairs], retain_graph=True)),
            1e-4,
        )


def detr_layer(
    layer: nn.TransformerDecoderLayer, x: Tensor, memory: Tensor, query_pos: Tensor, pos: Tensor, padding: Tensor
) -> Tensor:
    """`forward_post` and `forward_pre` of DETR's `models/transformer.py`, dropout left out."""

    def attend(x: Tensor) -> Tensor:
        return layer.self_attn(x + query_pos, x + query_pos, x)[0]

    def attend_memory(x: Tensor) -> Tensor:
        return layer.multihead_attn(x + query_pos, memory + pos, memory, key_padding_mask=padding)[0]

    def feedforward(x: Tensor) -> Tensor:
        return layer.linear2(layer.linear1(x).relu())

    for norm, branch in [(layer.norm1, attend), (layer.norm2, attend_memory), (layer.norm3, feedforward)]:
        x = x + branch(norm(x)) if layer.norm_first else norm(x + branch(x))
    return x


@pytest.mark.parametrize("pos_batch", [1, 2])
@pre_and_post_norm
def test_positions_go_where_detr_adds_them(norm_first, pos_batch):
    ours, theirs = pair(norm_first)
    x, memory, padding = (
        torch.zeros(2, 4, EMBED_DIM),
        normal(2, 6, EMBED_DIM, seed=2),
        padding_mask(torch.tensor([6, 3])),
    )
    query_pos, pos = normal(1, 4, EMBED_DIM, seed=3), normal(pos_batch, 6, EMBED_DIM, seed=4)
    expected = x
    for layer in theirs.layers:
        assert isinstance(layer, nn.TransformerDecoderLayer)
        expected = detr_layer(layer, expected, memory, query_pos, pos, padding)
    expected = expected if theirs.norm is None else theirs.norm(expected)
    actual = ours(x, memory, query_pos=query_pos, pos=pos, memory_key_padding_mask=padding, is_causal=False)
    assert_same(actual, expected)


@with_each(CAUSAL)
@pre_and_post_norm
def test_without_cross_attention_it_is_a_causal_encoder(norm_first, attention):
    decoder = Decoder(8, 2, 2, attention=attention, cross_attention=None, norm_first=norm_first)
    randomise(decoder)
    encoder = Encoder(8, 2, 2, attention=attention, norm_first=norm_first)
    encoder.load_state_dict(decoder.state_dict())
    x, padding = normal(2, 5, 8), padding_mask(torch.tensor([5, 3]))
    assert torch.equal(decoder(x), encoder(x, is_causal=True))
    given = decoder(x, query_pos=normal(1, 5, 8, seed=2), key_padding_mask=padding)
    assert torch.equal(given, encoder(x, pos=normal(1, 5, 8, seed=2), key_padding_mask=padding, is_causal=True))


@with_each(CAUSAL)
@with_each(CROSS, "cross_attention")
@pytest.mark.parametrize("is_causal", [False, True], ids=["full", "causal"])
@pre_and_post_norm
def test_padding_holds_nothing(norm_first, is_causal, attention, cross_attention):
    """Whatever lies in the padding of either input changes no real token and no gradient; a memory may be empty."""
    decoder = Decoder(8, 2, 2, attention=attention, cross_attention=cross_attention, norm_first=norm_first)
    randomise(decoder)
    padding, memory_padding = padding_mask(torch.tensor([4, 2, 3])), padding_mask(torch.tensor([3, 5, 0]))
    results = []
    for garbage in (0.0, 1e30, float("inf"), float("nan")):
        x = normal(3, 4, 8).masked_fill(padding[:, :, None], garbage).requires_grad_()
        memory = normal(3, 5, 8, seed=2).masked_fill(memory_padding[:, :, None], garbage).requires_grad_()
        output = decoder(
            x, memory, key_padding_mask=padding, memory_key_padding_mask=memory_padding, is_causal=is_causal
        )[~padding]
        results.append([output, *gradients(decoder, weighed(output), x, memory)])
        assert (results[-1][-2][padding] == 0).all()
        assert (results[-1][-1][memory_padding] == 0).all()
    for dirty in results[1:]:
        assert all(map(torch.equal, dirty, results[0]))
    assert all(result.isfinite().all() for result in results[0])


@with_each(CROSS)
def test_memory_of_one_sequence_reaches_no_other(attention):
    decoder = Decoder(8, 2, 2, cross_attention=attention)
    x, memory = normal(2, 3, 8), normal(2, 4, 8, seed=2)
    together = decoder(x, memory)
    for row in range(2):
        assert_same(together[row], decoder(x[row : row + 1], memory[row : row + 1])[0])


@with_each(CAUSAL)
@pre_and_post_norm
def test_gradients_reach_every_parameter(norm_first, attention):
    torch.manual_seed(0)
    decoder = Decoder(8, 2, 2, attention=attention, norm_first=norm_first)
    weighed(decoder(normal(2, 5, 8), normal(2, 4, 8, seed=2))).backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name

"""Packed sequences give the numbers of the padded ones, and cost no work on padding."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from core import Decoder, Encoder, EncoderLayer, FullAttention, Packing, Residual, RotaryPositionalEncoding
from core.masks import padding_mask
from tests.core.helpers import (
    ATTENTIONS,
    CAUSAL,
    CROSS,
    assert_all_same,
    gradients,
    normal,
    randomise,
    serves,
    weighed,
    with_each,
)

LENGTHS = st.lists(st.integers(0, 5), min_size=1, max_size=4)


@with_each(ATTENTIONS)
@given(lengths=LENGTHS, extra=st.integers(0, 2), rotary=st.booleans(), with_pos=st.booleans(), causal=st.booleans())
def test_packed_encoder_is_the_padded_one(attention, lengths, extra, rotary, with_pos, causal):
    causal = causal and serves(attention, query_len=2, key_len=2, is_causal=True)
    padding = padding_mask(torch.tensor(lengths), max(lengths) + extra)
    check_encoder(attention, padding, rotary=rotary, with_pos=with_pos, is_causal=causal)


def check_encoder(attention, padding: Tensor, *, rotary: bool, with_pos: bool, is_causal: bool) -> None:
    """Outputs at real tokens, gradients of the parameters and of the input."""
    packing, (rows, length) = Packing(padding), padding.shape
    encoder = Encoder(8, 2, 2, attention=attention, rotary=RotaryPositionalEncoding if rotary else None)
    randomise(encoder)
    x, pos = normal(rows, length, 8).requires_grad_(), normal(rows, length, 8, seed=2) if with_pos else None
    padded = encoder(x, pos=pos, key_padding_mask=padding, is_causal=is_causal)
    packed_pos = None if pos is None else packing.pack(pos)
    packed = encoder(packing.pack(x), pos=packed_pos, is_causal=is_causal, packing=packing)
    assert packed.shape == (1, (~padding).sum(), 8)
    results = [padded.masked_fill(padding[:, :, None], 0.0), packing.unpack(packed)]
    assert_all_same(*([result, *gradients(encoder, weighed(result), x)] for result in results), tolerance=2e-5)


@pytest.mark.parametrize("is_causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("rotary", [False, True], ids=["plain", "rotary"])
def test_padding_may_stand_anywhere(rotary, is_causal):
    """Where no mechanism counts distances; a rotary encoding counts those of the padded batch."""
    padding = torch.tensor([[0, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]).bool()
    check_encoder(FullAttention, padding, rotary=rotary, with_pos=True, is_causal=is_causal)


@with_each(CAUSAL)
@with_each(CROSS, "cross_attention")
@given(lengths=LENGTHS, rotary=st.booleans(), with_pos=st.booleans(), is_causal=st.booleans(), data=st.data())
def test_packed_decoder_is_the_padded_one(attention, cross_attention, lengths, rotary, with_pos, is_causal, data):
    """With a memory of lengths of its own, which may be empty as well."""
    memory_lengths = data.draw(st.lists(st.integers(0, 4), min_size=len(lengths), max_size=len(lengths)))
    padding, memory_padding = (
        padding_mask(torch.tensor(lengths), 6),
        padding_mask(torch.tensor(memory_lengths), 4),
    )
    packing, memory_packing, rows = Packing(padding), Packing(memory_padding), len(lengths)
    decoder = Decoder(
        8,
        2,
        2,
        attention=attention,
        cross_attention=cross_attention,
        rotary=RotaryPositionalEncoding if rotary else None,
    )
    randomise(decoder)
    x, memory = normal(rows, 6, 8).requires_grad_(), normal(rows, 4, 8, seed=2).requires_grad_()
    positions = {"query_pos": normal(rows, 6, 8, seed=3), "pos": normal(rows, 4, 8, seed=4)} if with_pos else {}
    packed_positions = {
        name: (packing if name == "query_pos" else memory_packing).pack(pos) for name, pos in positions.items()
    }
    masks = {"key_padding_mask": padding, "memory_key_padding_mask": memory_padding}
    padded = decoder(x, memory, **positions, **masks, is_causal=is_causal)
    packed = decoder(
        packing.pack(x),
        memory_packing.pack(memory),
        **packed_positions,
        is_causal=is_causal,
        packing=packing,
        memory_packing=memory_packing,
    )
    results = [padded.masked_fill(padding[:, :, None], 0.0), packing.unpack(packed)]
    assert_all_same(*([result, *gradients(decoder, weighed(result), x, memory)] for result in results), tolerance=2e-5)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**16))
def test_unpack_undoes_pack(rows, length, seed):
    padding = torch.rand(rows, length, generator=torch.Generator().manual_seed(seed)) < 0.4
    packing, x = Packing(padding), normal(rows, length, 2, 3)
    packed = packing.pack(x)
    assert torch.equal(packed[0], x[~padding])
    assert packing.lengths == (~padding).sum(1).tolist()
    assert torch.equal(packing.unpack(packed), x.masked_fill(padding[:, :, None, None], 0.0))
    assert torch.equal(packing.positions()[0], torch.arange(length).expand(rows, length)[~padding])
    assert torch.equal(packing.repeat(x[:, 0]), packing.pack(x[:, :1].expand_as(x)))


@pytest.mark.parametrize("silent", ["attention.out_proj", "feedforward.linear2"])
def test_stochastic_depth_drops_whole_sequences(silent):
    """Each by itself, in either branch: some are kept and some are dropped, but never a part of one."""
    torch.manual_seed(0)
    lengths = torch.arange(100) % 4
    packing = Packing(padding_mask(lengths))
    layer = EncoderLayer(8, 2, 16, drop_path=0.9)
    nn.init.zeros_(layer.get_submodule(silent).get_parameter("weight"))
    nn.init.zeros_(layer.get_submodule(silent).get_parameter("bias"))
    x = normal(1, int(lengths.sum()), 8)
    changed = (layer(x, packing=packing) != x).any(-1)[0]
    share = torch.stack([one.float().mean() for one in changed.split(packing.lengths) if len(one)])
    assert set(share.tolist()) == {0.0, 1.0}
    assert 0 < share.mean() < 0.5
    branch = Residual(8, drop_path=0.9)(x, torch.ones_like, packing) - x
    assert set(branch.round(decimals=4).unique().tolist()) == {0.0, 10.0}  # what is kept counts 1 / (1 - p) times


class Counting(FullAttention):
    """Notes how many pairs of query and key it was asked for."""

    def __init__(self, pairs: list[int]) -> None:
        super().__init__()
        self.pairs = pairs

    def forward(self, q, k, v, **masks):
        self.pairs.append(q.shape[2] * k.shape[2])
        return super().forward(q, k, v, **masks)


def linear_flops(counter: FlopCounterMode) -> int:
    return sum(
        flops for op, flops in counter.get_flop_counts()["Global"].items() if "mm" in str(op) or "linear" in str(op)
    )


def test_no_work_on_padding():
    """The exact number of operations: the linear maps see each real token, attention the pairs within a sequence."""
    lengths, memory_lengths, width, ffn_dim, layers = [7, 1, 0, 3], [2, 9, 1, 0], 8, 12, 2
    packing, memory_packing = (Packing(padding_mask(torch.tensor(count), 10)) for count in (lengths, memory_lengths))
    x, memory = normal(1, 11, width), normal(1, 12, width)
    pairs, tokens, memory_tokens = [], 11, 12
    attention = partial(Counting, pairs)

    encoder = Encoder(width, 2, layers, ffn_dim, attention=attention)
    with FlopCounterMode(display=False) as counter:
        encoder(x, packing=packing)
    self_attention, feedforward = 4 * width * width, 2 * width * ffn_dim  # weights that a token meets
    assert linear_flops(counter) == 2 * layers * tokens * (self_attention + feedforward)
    assert pairs == layers * [49, 1, 9]

    decoder = Decoder(width, 2, layers, ffn_dim, attention=attention, cross_attention=attention)
    pairs.clear()
    with FlopCounterMode(display=False) as counter:
        decoder(x, memory, packing=packing, memory_packing=memory_packing)
    of_tokens = tokens * (self_attention + feedforward + 2 * width * width)
    assert linear_flops(counter) == 2 * layers * (of_tokens + memory_tokens * 2 * width * width)
    assert pairs == layers * [49, 1, 9, 14, 9]

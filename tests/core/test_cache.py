"""Decoding step by step is decoding at once: any mechanism, any lengths, any positions."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from core import (
    Decoder,
    FullAttention,
    LearnedPositionalEncoding,
    RotaryPositionalEncoding,
    SinusoidalPositionalEncoding,
)
from core.cache import DecoderCache, Past
from core.masks import padding_mask
from tests.core.helpers import CAUSAL, assert_same, normal, randomise, with_each

POSITIONS: dict[str, Callable[[], nn.Module]] = {
    "learned": partial(LearnedPositionalEncoding, 8, num_positions=40),
    "sinusoidal": partial(SinusoidalPositionalEncoding, 8),
    "as query_pos": partial(LearnedPositionalEncoding, 8, num_positions=40),
}


class Model(nn.Module):
    """A decoder whose tokens know where they stand, with or without a memory of unequal lengths."""

    def __init__(self, attention, *, positions: str = "learned", with_memory: bool = False, rows: int = 3) -> None:
        super().__init__()
        cross = {} if with_memory else {"cross_attention": None}
        rotary = RotaryPositionalEncoding if positions == "rotary" else None
        self.decoder = Decoder(8, 2, 2, attention=attention, rotary=rotary, **cross)
        self.encoding = POSITIONS[positions]() if positions in POSITIONS else None
        self.in_every_layer = positions == "as query_pos"
        randomise(self)
        self.memory = normal(rows, 5, 8, seed=3) if with_memory else None
        self.memory_padding = padding_mask(torch.arange(rows) % 3 + 1, 5) if with_memory else None

    def forward(self, x: Tensor, padding: Tensor | None = None, cache: DecoderCache | None = None) -> Tensor:
        query_pos = None
        if self.encoding is not None:
            encoded = self.encoding(x.shape[1], offset=0 if cache is None else cache.past.offset)
            if self.in_every_layer:
                query_pos = encoded if encoded.ndim == 3 else encoded[None]
            else:
                x = x + encoded
        pos = None if self.memory is None else normal(1, 5, 8, seed=4)
        return self.decoder(
            x,
            self.memory,
            query_pos=query_pos,
            pos=pos,
            key_padding_mask=padding,
            memory_key_padding_mask=self.memory_padding,
            cache=cache,
        )

    def select(self, rows: Tensor) -> None:
        if self.memory is not None and self.memory_padding is not None:
            self.memory, self.memory_padding = self.memory[rows], self.memory_padding[rows]


def chunks(x: Tensor, counts: list[list[int]], extra: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Hands out so many next tokens of each row, NaN in their padding."""
    done = [0] * len(x)
    for count in counts:
        padding = padding_mask(torch.tensor(count), max(1, *count) + extra)
        chunk = x.new_full((len(x), padding.shape[1], x.shape[2]), math.nan)
        for row, number in enumerate(count):
            chunk[row, :number] = x[row, done[row] : done[row] + number]
            done[row] += number
        yield chunk, padding


@torch.inference_mode()
def step_by_step(model: Model, x: Tensor, counts: list[list[int]], extra: int = 0) -> list[Tensor]:
    """Each row's outputs, decoded in steps."""
    cache, outputs = model.decoder.make_cache(), [[] for _ in x]
    for chunk, padding in chunks(x, counts, extra):
        output = model(chunk, padding if padding.any() else None, cache)
        for row, real in enumerate(~padding):
            outputs[row].append(output[row, real])
    return [torch.cat(row) for row in outputs]


@torch.no_grad()
def at_once(model: Model, x: Tensor, counts: list[list[int]]) -> list[Tensor]:
    lengths = torch.tensor(counts).sum(0)
    output = model(x[:, : int(lengths.max())], padding_mask(lengths))
    return [row[:length] for row, length in zip(output, lengths.tolist(), strict=True)]


@st.composite
def schedules(draw) -> list[list[int]]:
    """How many tokens each row gets at each step: none for a row that is finished."""
    rows = draw(st.integers(1, 3))
    return draw(st.lists(st.lists(st.integers(0, 4), min_size=rows, max_size=rows), min_size=1, max_size=5))


@with_each(CAUSAL)
@given(counts=schedules(), extra=st.integers(0, 2), with_memory=st.booleans())
def test_steps_equal_the_whole(attention, counts, extra, with_memory):
    check_steps(Model(attention, with_memory=with_memory, rows=len(counts[0])), counts, extra)


@pytest.mark.parametrize("positions", ["none", "rotary", *POSITIONS])
@given(counts=schedules(), extra=st.integers(0, 2), with_memory=st.booleans())
def test_steps_know_their_positions(positions, counts, extra, with_memory):
    check_steps(Model(FullAttention, positions=positions, with_memory=with_memory, rows=len(counts[0])), counts, extra)


def check_steps(model: Model, counts: list[list[int]], extra: int) -> None:
    x = normal(len(counts[0]), 20, 8)
    for stepped, whole in zip(step_by_step(model, x, counts, extra), at_once(model, x, counts), strict=True):
        assert_same(stepped, whole)


@with_each(CAUSAL)
def test_a_mechanism_forgets_padding(attention):
    """By itself, without a decoder that clears it; what it leaves in a cache is met by later steps."""
    mechanism, x = attention(), normal(2, 8, 4)
    whole, cache, past, outputs = mechanism(*[x[:, None]] * 3, is_causal=True), mechanism.make_cache(), Past(), [[], []]
    for chunk, padding in chunks(x, [[4, 1], [1, 1], [1, 2], [1, 3]]):
        output = mechanism.decode(*[chunk[:, None]] * 3, cache, past, key_padding_mask=padding)
        past = past.advance(chunk.shape[1], padding)
        for row, real in enumerate(~padding):
            outputs[row].append(output[row, 0, real])
    for row, length in enumerate((7, 7)):
        assert_same(torch.cat(outputs[row]), whole[row, 0, :length])


@with_each(CAUSAL)
@pytest.mark.parametrize("prompt", [[4, 4, 4], [4, 1, 3]], ids=["equal", "unequal"])
@pytest.mark.parametrize("with_memory", [False, True], ids=["gpt", "with memory"])
@pytest.mark.parametrize("rows", [[2, 0, 1], [1, 1, 2], [1], [0, 0, 1, 2, 2, 2]], ids=str)
def test_select_is_as_if_the_rows_had_always_stood_so(rows, with_memory, prompt, attention):
    """As beam search does: between the steps rows change places, are dropped and doubled, and go on differently."""
    model = Model(attention, with_memory=with_memory)
    before, after = normal(3, 4, 8), normal(len(rows), 3, 8, seed=2)
    with torch.inference_mode():
        cache = model.decoder.make_cache()
        ((chunk, padding),) = chunks(before, [prompt])
        model(chunk, padding, cache)
        chosen = torch.tensor(rows)
        model.select(chosen)
        cache.select(chosen)
        stepped = torch.cat([model(after[:, step : step + 1], None, cache) for step in range(3)], 1)
    lengths = torch.tensor(prompt)[chosen]
    x = torch.zeros(len(rows), 7, 8)
    for row, (parent, length) in enumerate(zip(rows, lengths.tolist(), strict=True)):
        x[row, : length + 3] = torch.cat([before[parent, :length], after[row]])
    with torch.no_grad():
        whole = model(x, padding_mask(lengths + 3, 7))
    for row, length in enumerate(lengths.tolist()):
        assert_same(stepped[row], whole[row, length : length + 3])


@with_each(CAUSAL)
def test_beams_of_one_sequence_change_places_without_their_memory(attention):
    """Two sequences of two beams each: where each keeps to its own, copying the memory changes nothing."""
    torch.manual_seed(0)
    decoder = Decoder(8, 2, 2, attention=attention).eval()
    memory, x = normal(2, 5, 8).repeat_interleave(2, 0), normal(4, 3, 8, seed=2)
    masks = {"memory_key_padding_mask": padding_mask(torch.tensor([5, 5, 3, 3]))}
    found = []
    with torch.inference_mode():
        for same_memory in (False, True):
            cache = decoder.make_cache()
            decoder(x[:, :2], memory, cache=cache, **masks)
            kept = cache.layers[0].memory
            cache.select(torch.tensor([1, 1, 3, 2]), same_memory=same_memory)
            assert (cache.layers[0].memory is kept) == same_memory
            found.append(decoder(x[:, 2:], memory, cache=cache, **masks))
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_past_by_hand():
    past = Past().advance(3, torch.tensor([[False, False, True], [False, True, True]]))
    assert (past.longest, past.offset.tolist()) == (2, [2, 1])
    assert past.positions(2, torch.device("cpu")).tolist() == [[2, 3], [1, 2]]
    past = past.advance(1, None)
    assert (past.longest, past.offset.tolist()) == (3, [3, 2])
    past = past.advance(1, torch.tensor([[True], [False]]))  # the second has caught up
    assert past == Past(3)
    assert past.offset == 3
    assert past.positions(2, torch.device("cpu")).tolist() == [[3, 4]]


def test_memory_is_projected_once():
    model = Model(CAUSAL[0], with_memory=True)
    cache = model.decoder.make_cache()
    with torch.inference_mode():
        model(normal(3, 2, 8), None, cache)
        first = [layer.memory for layer in cache.layers]
        model(normal(3, 1, 8), None, cache)
    assert all(layer.memory is memory is not None for layer, memory in zip(cache.layers, first, strict=True))


@with_each(CAUSAL)
def test_a_gradient_is_refused(attention):
    model = Model(attention)
    with pytest.raises(ValueError, match="inference_mode"):
        model(normal(3, 2, 8), None, model.decoder.make_cache())


@with_each(CAUSAL)
def test_another_number_of_rows_is_refused(attention):
    model = Model(attention)
    cache = model.decoder.make_cache()
    with torch.inference_mode():
        model(normal(3, 2, 8), None, cache)
        with pytest.raises(ValueError, match="1 rows, but the cache remembers 3 sequences"):
            model(normal(1, 1, 8), None, cache)
        cache.select(torch.tensor([1]))
        assert model(normal(1, 1, 8), None, cache).shape == (1, 1, 8)


@contextmanager
def break_off(module: nn.Module) -> Iterator[None]:
    """Interrupts what runs through `module`, at its end."""

    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    handle = module.register_forward_hook(interrupt)
    yield
    handle.remove()


@pytest.mark.parametrize("number", [0, 1])
def test_a_step_that_was_broken_off_leaves_no_cache_to_go_on_with(number):
    """The first layer remembers the step and the second does not: going on would be wrong in silence."""
    model, x = Model(FullAttention, with_memory=True), normal(3, 6, 8)
    cache = model.decoder.make_cache()
    with torch.inference_mode():
        steps = list(chunks(x, [[3, 1, 2], [2, 2, 2]]))
        for chunk, padding in steps[:number]:
            model(chunk, padding, cache)
        with break_off(model.decoder.layers[1]), pytest.raises(KeyboardInterrupt):
            model(*steps[number], cache)
        with pytest.raises(ValueError, match="broken off"):
            model(*steps[number], cache)

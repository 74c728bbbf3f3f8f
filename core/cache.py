"""What decoding token by token remembers, so that no earlier token is computed again."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from core.types import HeadKeys, HeadQueries


@dataclass(frozen=True)
class Past:
    """How many tokens each sequence has behind it when the next ones come.

    Attributes:
        longest: The most that a sequence has.
        lengths: What each sequence has; None where all have `longest`, which spares every mask.
    """

    longest: int = 0
    lengths: Int[Tensor, " batch"] | None = None

    @property
    def offset(self) -> int | Tensor:
        """The position of the next token: one number, or one a sequence where they differ."""
        return self.longest if self.lengths is None else self.lengths

    def positions(self, length: int, device: torch.device) -> Int[Tensor, "#batch length"]:
        """The positions of the next `length` tokens."""
        steps = torch.arange(length, device=device)
        return (steps + self.longest)[None] if self.lengths is None else self.lengths[:, None] + steps

    def advance(self, length: int, key_padding_mask: Bool[Tensor, "batch length"] | None) -> "Past":
        """The past after `length` more tokens, of which the padded ones do not count.

        Raises:
            ValueError: If a sequence has a real token after a padded one: it would get another's place.
        """
        if key_padding_mask is None:
            return Past(self.longest + length, None if self.lengths is None else self.lengths + length)
        if bool((key_padding_mask[:, :-1] & ~key_padding_mask[:, 1:]).any()):
            raise ValueError("key_padding_mask: with a cache, padding stands behind a sequence's real tokens")
        real = (~key_padding_mask).sum(1)
        lengths = real + self.offset
        longest = int(lengths.max())
        return Past(longest, None if bool((lengths == longest).all()) else lengths)


class Cache(ABC):
    """What one attention mechanism remembers of the tokens that it has seen."""

    @abstractmethod
    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Keeps these sequences in this order; one may be kept several times, as beam search does."""


class KeyValueCache(Cache):
    """Keys and values of all tokens so far, in buffers that double when they are full.

    A step writes its own tokens only; over n steps each key is copied less than twice for growth.
    """

    def __init__(self) -> None:
        self.k: Tensor | None = None
        self.v: Tensor | None = None

    def append(self, k: HeadQueries, v: HeadQueries, past: Past) -> tuple[HeadKeys, HeadKeys]:
        """Writes keys and values behind each sequence's past and gives all of them, without a copy.

        Slots behind a sequence's own end are unspecified, but finite.
        """
        refuse_gradients(k)
        end = past.longest + k.shape[2]
        self.k, self.v = (_room(old, new, end) for old, new in ((self.k, k), (self.v, v)))
        for buffer, new in ((self.k, k), (self.v, v)):
            if past.lengths is None:
                buffer[:, :, past.longest : end] = new
            else:
                rows = torch.arange(len(new), device=new.device)[:, None]
                buffer[rows, :, past.positions(new.shape[2], new.device)] = new.transpose(1, 2)
        return self.k[:, :, :end], self.v[:, :, :end]

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        if self.k is not None and self.v is not None:
            self.k, self.v = self.k[rows], self.v[rows]


def refuse_gradients(k: Tensor) -> None:
    """Raises `ValueError` where a graph is recorded: a cache overwrites, and would cut it."""
    if torch.is_grad_enabled() and k.requires_grad:
        raise ValueError("a cache serves inference only: decode under torch.inference_mode() or torch.no_grad()")


def _room(buffer: Tensor | None, new: Tensor, length: int) -> Tensor:
    capacity = 0 if buffer is None else buffer.shape[2]
    if buffer is not None and length <= capacity:
        return buffer
    batch, heads, _, head_dim = new.shape
    larger = new.new_zeros(batch, heads, max(length, 2 * capacity), head_dim)
    if buffer is not None:
        larger[:, :, :capacity] = buffer
    return larger


@dataclass
class LayerCache:
    """What a decoder layer remembers.

    Attributes:
        attention: What its self-attention remembers.
        memory: Keys and values of the encoder's output, projected once; None before the first step.
    """

    attention: Cache
    memory: tuple[Tensor, Tensor] | None = None


@dataclass
class DecoderCache:
    """What a decoder remembers between steps. Made by `Decoder.make_cache`, changed by each forward that gets it.

    Attributes:
        layers: What each layer remembers.
        past: The tokens so far; `past.offset` is where the position of the next one stands.
        num_sequences: How many sequences are remembered; None before the first step.
        is_whole: Whether every layer remembers the same tokens; not so once a step was broken off on its way.
    """

    layers: list[LayerCache]
    past: Past = field(default_factory=Past)
    num_sequences: int | None = None
    is_whole: bool = True

    def check(self, x: Tensor) -> None:
        """Refuses another number of sequences than is remembered, which would be broadcast in silence.

        Raises:
            ValueError: If `x` does not have a row for each sequence, or an earlier step was broken off.
        """
        if not self.is_whole:
            raise ValueError("cache: a step was broken off, so that its layers remember unequal pasts; make a new one")
        if self.num_sequences not in (None, len(x)):
            raise ValueError(
                f"x has {len(x)} rows, but the cache remembers {self.num_sequences} sequences: see DecoderCache.select"
            )

    def select(self, rows: Int[Tensor, " rows"], *, same_memory: bool = False) -> None:
        """Keeps these sequences in this order; one may be kept several times, as beam search does.

        Args:
            rows: The sequences.
            same_memory: Whether each of them has the encoder's output that its new place has already, as the beams of
                one sequence do among themselves: its keys and values, the most of what is remembered, are then not
                copied.
        """
        for layer in self.layers:
            layer.attention.select(rows)
            if layer.memory is not None and not same_memory:
                layer.memory = (layer.memory[0][rows], layer.memory[1][rows])
        if self.past.lengths is not None:
            self.past = Past(self.past.longest, self.past.lengths[rows])
        self.num_sequences = len(rows)

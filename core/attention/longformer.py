"""Attention in a sliding window, with some tokens that see all and are seen by all (Beltagy et al. 2020)."""

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from core.attention.base import without_padding
from core.attention.blocks import Layout, Part, attend_in_blocks, blocks_for, neighbourhood, shared
from core.attention.full import masked_softmax_attention
from core.attention.pattern import Padding, PatternAttention
from core.cache import Cache, Past, refuse_gradients
from core.types import HeadKeys, HeadQueries


class LongformerAttention(PatternAttention):
    """Sliding-window and global softmax attention (Longformer; Beltagy et al. 2020, section 3.1).

    A query sees the keys that are at most `window_size / 2` steps of `dilation` tokens away, to each side, and the
    first `num_global_tokens` tokens, which themselves see all; under `is_causal`, of these what is not in the future.
    Unlike the paper's, global tokens have no projections of their own: those belong to `MultiHeadAttention`.

    Time and memory are O(length * (window_size + num_global_tokens)); a step of decoding costs
    O(window_size * dilation + num_global_tokens). Honours `key_padding_mask` and `is_causal`; refuses `attn_mask`,
    which is about all pairs, and queries that are not the keys' own tokens.

    Args:
        window_size: Width of the window, even.
        num_global_tokens: How many tokens, from the first, are global.
        dilation: Distance of neighbours in the window, in tokens.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(self, window_size: int = 256, num_global_tokens: int = 0, dilation: int = 1) -> None:
        super().__init__()
        if window_size < 2 or window_size % 2:
            raise ValueError(f"window_size={window_size} is not an even number above 0: half of it lies to each side")
        if num_global_tokens < 0:
            raise ValueError(f"num_global_tokens={num_global_tokens} must not be negative")
        if dilation < 1:
            raise ValueError(f"dilation={dilation} must be at least 1")
        self.window_size = window_size
        self.num_global_tokens = num_global_tokens
        self.dilation = dilation
        self.reach = window_size // 2
        self.rows = max(self.reach, 32)
        self.dense_length = max(4 * self.rows, num_global_tokens)

    def extra_repr(self) -> str:
        return f"window_size={self.window_size}, num_global_tokens={self.num_global_tokens}, dilation={self.dilation}"

    def blocks_pair(self, query: Int[Tensor, "*queries"], key: Int[Tensor, "*keys"]) -> Bool[Tensor, "*pairs"]:
        distance = (key - query).abs()
        near = (distance <= self.reach * self.dilation) & (distance % self.dilation == 0)
        return ~(near | (query < self.num_global_tokens) | (key < self.num_global_tokens))

    def attend_by_blocks(
        self, q: HeadQueries, k: HeadQueries, v: HeadQueries, padding: Padding, is_causal: bool
    ) -> HeadQueries:
        """Keys are laid out as: the global tokens, an empty block, all tokens, an empty block."""
        length, count = q.shape[2], self.num_global_tokens
        span = self.rows * self.dilation
        blocks = blocks_for(length, span)
        tail = blocks * span - length

        # In the window, global tokens are left out: every query has them already.
        twice = padding | (torch.arange(length, device=q.device) < count)
        left_out = torch.cat([padding[:, :count], F.pad(twice, (span, span + tail), value=True)], dim=1)
        parts = [
            neighbourhood(
                left_out,
                front_size=count,
                blocks=blocks,
                rows=self.rows,
                reach=self.reach,
                is_causal=is_causal,
                step=self.dilation,
                residue=residue,
            )
            for residue in range(self.dilation)
        ]
        if count:
            parts.append(self._of_global_tokens(padding, count + span, is_causal=is_causal))
        layout = Layout(span, span + tail, count, lambda x: x[:, :, span : span + count])
        return attend_in_blocks(q, k, v, parts, layout, tail)

    def _of_global_tokens(self, padding: Padding, first: int, *, is_causal: bool) -> Part:
        """The global tokens as queries: one block, with all tokens."""
        length, count = padding.shape[1], self.num_global_tokens
        band = torch.zeros(count, length, dtype=torch.bool, device=padding.device)
        if is_causal:
            band = torch.ones_like(band).triu(1)
        return Part(
            queries=partial(shared, first=0, count=count, blocks=1),
            keys=[partial(shared, first=first, count=length, blocks=1)],
            band=band,
            blocked=padding[:, None],
            replaces=True,
        )

    def make_cache(self) -> Cache:
        return RollingCache(self.num_global_tokens, self.reach * self.dilation + 1)

    def decode(
        self,
        q: HeadQueries,
        k: HeadQueries,
        v: HeadQueries,
        cache: Cache,
        past: Past,
        *,
        key_padding_mask: Bool[Tensor, "batch query_len"] | None = None,
    ) -> HeadQueries:
        assert isinstance(cache, RollingCache)
        k, v = without_padding(k, v, key_padding_mask)
        if past.longest == 0:
            cache.write(k, v, past, key_padding_mask)
            return self.forward(q, k, v, key_padding_mask=key_padding_mask, is_causal=True)
        positions, mixed = past.positions(q.shape[2], q.device), []
        for step in range(q.shape[2]):
            new = slice(step, step + 1)
            padded = None if key_padding_mask is None else key_padding_mask[:, new]
            cache.write(k[:, :, new], v[:, :, new], past, padded)
            query, key = positions[:, new, None], cache.positions[:, None]
            blocked = (key < 0) | (key > query) | self.blocks_pair(query, key)
            mixed.append(masked_softmax_attention(q[:, :, new], cache.k, cache.v, blocked[:, None]))
            past = past.advance(1, padded)
        return torch.cat(mixed, dim=2)


class RollingCache(Cache):
    """Keys and values of the global tokens and of the last `window` tokens, the newest in place of the oldest.

    Args:
        num_global_tokens: How many tokens, from the first, are never given up.
        window: How many others are kept.
    """

    k: Tensor
    v: Tensor
    positions: Int[Tensor, "batch slots"]

    def __init__(self, num_global_tokens: int, window: int) -> None:
        self.num_global_tokens = num_global_tokens
        self.window = window

    def write(
        self, k: HeadKeys, v: HeadKeys, past: Past, key_padding_mask: Bool[Tensor, "batch key_len"] | None
    ) -> None:
        """Remembers the newest of the real tokens, each in its slot."""
        refuse_gradients(k)
        batch, heads, length, head_dim = k.shape
        spare = self.num_global_tokens + self.window  # what need not be remembered goes to a slot that nobody sees
        if past.longest == 0:
            self.k, self.v = (x.new_zeros(batch, heads, spare + 1, head_dim) for x in (k, v))
            self.positions = torch.full((batch, spare + 1), -1, device=k.device)
        positions = past.positions(length, k.device).expand(batch, -1)
        real = torch.ones_like(positions, dtype=torch.bool) if key_padding_mask is None else ~key_padding_mask
        is_global = positions < self.num_global_tokens
        newest = positions >= positions[:, :1] + real.sum(1, keepdim=True) - self.window
        turning = self.num_global_tokens + (positions - self.num_global_tokens) % self.window
        slots = torch.where(is_global, positions, turning).where(real & (is_global | newest), spare)
        rows = torch.arange(batch, device=k.device)[:, None]
        self.k[rows, :, slots], self.v[rows, :, slots] = k.transpose(1, 2), v.transpose(1, 2)
        self.positions[rows, slots] = positions
        self.positions[:, spare] = -1

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        self.k, self.v, self.positions = self.k[rows], self.v[rows], self.positions[rows]

"""Sparse Transformers' two patterns: strided and fixed (Child et al. 2019)."""

from abc import abstractmethod
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from core.attention.base import without_padding
from core.attention.blocks import (
    Layout,
    Part,
    attend_in_blocks,
    blocks_for,
    in_blocks,
    in_columns,
    neighbourhood,
    shared,
)
from core.attention.full import masked_softmax_attention
from core.attention.pattern import Padding, PatternAttention
from core.cache import Cache, KeyValueCache, Past
from core.types import HeadQueries


class _CausalGather(PatternAttention):
    """Decodes from a cache of all tokens by gathering the few that the pattern lets a new one see."""

    @abstractmethod
    def seen_from(self, position: Int[Tensor, "rows 1"], longest: int) -> Int[Tensor, "rows seen"]:
        """The positions that a token sees of its past, itself included, among `longest`; -1 fills up."""

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
        assert isinstance(cache, KeyValueCache)
        k, v = without_padding(k, v, key_padding_mask)
        keys, values = cache.append(k, v, past)
        if past.longest == 0:
            return self.forward(q, k, v, key_padding_mask=key_padding_mask, is_causal=True)
        positions, mixed = past.positions(q.shape[2], q.device), []
        rows = torch.arange(len(q), device=q.device)[:, None]
        for step in range(q.shape[2]):
            seen = self.seen_from(positions[:, step : step + 1], keys.shape[2]).expand(len(q), -1)
            places = seen.clamp(min=0)
            few_keys, few_values = (x[rows, :, places].transpose(1, 2) for x in (keys, values))
            blocked = (seen < 0)[:, None, None]
            mixed.append(masked_softmax_attention(q[:, :, step : step + 1], few_keys, few_values, blocked))
        return torch.cat(mixed, dim=2)


class SparseAttention(_CausalGather):
    """Strided sparse softmax attention (Sparse Transformer; Child et al. 2019, section 4.3).

    A query at position i sees the keys j with `|i - j| <= stride` and those with `(i - j) mod stride = 0`: the paper's
    `A^(1)` and `A^(2)`, in one softmax (its "merged head"). The paper is about causal attention; without `is_causal`
    the pattern reaches to both sides. Meant for data with a period, `stride` being that period (a picture's width) or
    about the square root of the length.

    Time and memory are O(length * (stride + length / stride)), so O(length * sqrt(length)) at the best stride. Honours
    `key_padding_mask` and `is_causal`; refuses `attn_mask`, which is about all pairs, and queries that are not the
    keys' own tokens.

    Args:
        stride: The pattern's l, in tokens.

    Raises:
        ValueError: If `stride` is less than 1.
    """

    def __init__(self, stride: int = 128) -> None:
        super().__init__()
        if stride < 1:
            raise ValueError(f"stride={stride} must be at least 1")
        self.stride = stride
        self.dense_length = max(4 * stride, 256)

    def extra_repr(self) -> str:
        return f"stride={self.stride}"

    def blocks_pair(self, query: Int[Tensor, "*queries"], key: Int[Tensor, "*keys"]) -> Bool[Tensor, "*pairs"]:
        distance = (key - query).abs()
        return (distance > self.stride) & (distance % self.stride != 0)

    def seen_from(self, position: Int[Tensor, "rows 1"], longest: int) -> Int[Tensor, "rows seen"]:
        near = torch.arange(self.stride + 1, device=position.device)
        far = torch.arange(2 * self.stride, max(longest, 2 * self.stride), self.stride, device=position.device)
        return (position - torch.cat([near, far])).clamp(min=-1)

    def attend_by_blocks(
        self, q: HeadQueries, k: HeadQueries, v: HeadQueries, padding: Padding, is_causal: bool
    ) -> HeadQueries:
        """Keys are laid out as: an empty block, all tokens, an empty block."""
        stride, length = self.stride, q.shape[2]
        blocks = blocks_for(length, stride)
        tail = blocks * stride - length
        left_out = F.pad(padding, (stride, stride + tail), value=True)
        parts = [
            neighbourhood(left_out, front_size=0, blocks=blocks, rows=stride, reach=stride, is_causal=is_causal),
            self._far(left_out, blocks, is_causal=is_causal),
        ]
        return attend_in_blocks(q, k, v, parts, Layout(stride, stride + tail), tail)

    def _far(self, left_out: Bool[Tensor, "#batch places"], blocks: int, *, is_causal: bool) -> Part:
        """Tokens a multiple of the stride apart, without those of the neighbourhood, A^(1): A^(2)."""
        keys = partial(in_columns, first=self.stride, rows=blocks, columns=self.stride)
        row = torch.arange(blocks, device=left_out.device)
        band = (row - row[:, None]).abs() <= 1
        if is_causal:
            band = band | (row > row[:, None])
        return Part(
            queries=partial(in_columns, first=0, rows=blocks, columns=self.stride),
            keys=[keys],
            band=band,
            blocked=keys(left_out[:, None, :, None])[:, :, 0, :, 0],
            extends=True,
        )


class FixedSparseAttention(_CausalGather):
    """Fixed sparse softmax attention (Sparse Transformer; Child et al. 2019, section 4.3).

    A query at position i sees the keys j of its own block, `floor(j / stride) = floor(i / stride)`, and the last
    `summary_size` (the paper's c) positions of every block: the paper's `A^(1)` and `A^(2)`, in one softmax (its
    "merged head"). The paper is about causal attention; without `is_causal` the pattern reaches to both sides. Meant
    for data without a period, such as text.

    Time and memory are O(length * (stride + summary_size * length / stride)). Honours `key_padding_mask` and
    `is_causal`; refuses `attn_mask`, which is about all pairs, and queries that are not the keys' own tokens.

    Args:
        stride: The pattern's l: length of a block, in tokens.
        summary_size: The pattern's c: how many of a block's last positions all others see.

    Raises:
        ValueError: If `stride` is less than 1 or `summary_size` is not between 1 and `stride`.
    """

    def __init__(self, stride: int = 128, summary_size: int = 8) -> None:
        super().__init__()
        if stride < 1:
            raise ValueError(f"stride={stride} must be at least 1")
        if not 1 <= summary_size <= stride:
            raise ValueError(f"summary_size={summary_size} is not between 1 and stride={stride}")
        self.stride = stride
        self.summary_size = summary_size
        self.dense_length = max(4 * stride, 256)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, summary_size={self.summary_size}"

    def blocks_pair(self, query: Int[Tensor, "*queries"], key: Int[Tensor, "*keys"]) -> Bool[Tensor, "*pairs"]:
        same_block = query // self.stride == key // self.stride
        return ~(same_block | (key % self.stride >= self.stride - self.summary_size))

    def seen_from(self, position: Int[Tensor, "rows 1"], longest: int) -> Int[Tensor, "rows seen"]:
        block = position // self.stride
        own = block * self.stride + torch.arange(self.stride, device=position.device)
        places = torch.arange(longest, device=position.device)
        summaries = places[places % self.stride >= self.stride - self.summary_size][None]
        earlier = summaries.where(summaries // self.stride < block, -1)
        return torch.cat([own.where(own <= position, -1), earlier], dim=1)

    def attend_by_blocks(
        self, q: HeadQueries, k: HeadQueries, v: HeadQueries, padding: Padding, is_causal: bool
    ) -> HeadQueries:
        """Keys are laid out as: every block's summary, all tokens."""
        length, rows, size = q.shape[2], self.stride, self.summary_size
        blocks = blocks_for(length, rows)
        tail = blocks * rows - length

        def summaries(x: Tensor) -> Tensor:
            return x.unflatten(2, (blocks, rows))[:, :, :, rows - size :]

        layout = Layout(0, tail, blocks * size, summaries)
        own = partial(in_blocks, first=blocks * size, blocks=blocks, rows=rows)
        places = F.pad(padding, (0, tail), value=True)[:, None, :, None]
        left_out = torch.cat([summaries(places).flatten(2, 3), places], dim=2)
        block = torch.arange(blocks, device=q.device)
        of_summary = block.repeat_interleave(size)
        hidden = of_summary >= block[:, None] if is_causal else of_summary == block[:, None]  # its own it has already
        band = torch.zeros(rows, rows, dtype=torch.bool, device=q.device)
        if is_causal:
            band = torch.ones_like(band).triu(1)
        part = Part(
            queries=partial(in_blocks, first=0, blocks=blocks, rows=rows),
            keys=[partial(shared, first=0, count=blocks * size, blocks=blocks), own],
            band=F.pad(band, (blocks * size, 0)),
            blocked=torch.cat([left_out[:, 0, None, : blocks * size, 0] | hidden, own(left_out)[:, :, 0, :, 0]], dim=2),
        )
        return attend_in_blocks(q, k, v, [part], layout, tail)

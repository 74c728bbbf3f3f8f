"""Projections and heads around one attention mechanism (Vaswani et al. 2017, section 3.2.2)."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from core.attention import Attention, FullAttention
from core.cache import Cache, Past
from core.linear import Linear, linear
from core.packing import Packing
from core.position import RotaryPositionalEncoding
from core.types import AttentionMask, HeadKeys, HeadQueries, KeyPaddingMask, Keys, Queries


class MultiHeadAttention(nn.Module):
    """`MultiHead(Q, K, V) = Concat(head_1, ..., head_h) W^O` (Vaswani et al. 2017, section 3.2.2).

    `head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V)`. The matrices W^Q, W^K, W^V of all heads are the rows of one,
    `in_proj`, so that a self-attention takes one product and a cross-attention two; W^O is `out_proj`.

    Args:
        embed_dim: Width of a token (d_model).
        num_heads: Number of heads (h); must divide `embed_dim`.
        attention: Makes the mechanism inside the heads; a factory, so that each layer has its own parameters.
        bias: Whether the projections have biases.
        rotary: Makes a rotary encoding from `head_dim`, which turns the queries and keys of self-attention.

    Raises:
        ValueError: If `num_heads` does not divide `embed_dim`.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        attention: Callable[[], Attention] = FullAttention,
        *,
        bias: bool = True,
        rotary: Callable[[int], RotaryPositionalEncoding] | None = None,
    ) -> None:
        super().__init__()
        if min(embed_dim, num_heads) < 1:
            raise ValueError(f"embed_dim={embed_dim} and num_heads={num_heads} must be at least 1")
        if embed_dim % num_heads:
            raise ValueError(f"embed_dim={embed_dim} is not a multiple of num_heads={num_heads}")
        self.num_heads = num_heads
        self.in_proj = Linear(embed_dim, 3 * embed_dim, bias=bias)
        self.rotary = None if rotary is None else rotary(embed_dim // num_heads)
        self.attention = attention()
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias)
        nn.init.xavier_uniform_(self.in_proj.weight)
        for projection in (self.in_proj, self.out_proj):
            if projection.bias is not None:
                nn.init.zeros_(projection.bias)

    def forward(
        self,
        query: Queries,
        memory: Keys | None = None,
        *,
        query_pos: Float[Tensor, "#batch query_len embed_dim"] | None = None,
        pos: Float[Tensor, "#batch key_len embed_dim"] | None = None,
        key_padding_mask: KeyPaddingMask | None = None,
        attn_mask: AttentionMask | None = None,
        is_causal: bool = False,
        packing: Packing | None = None,
        memory_packing: Packing | None = None,
    ) -> Queries:
        """Attends from `query` to `memory`, or to `query` itself where no memory is given.

        Args:
            query: Tokens that ask.
            memory: Tokens that are asked, as keys and values.
            query_pos: Position, added to the queries before projection and not to the values.
            pos: Position, added to the keys before projection and not to the values. In self-attention `query_pos`
                serves both.
            key_padding_mask: True = padding, ignored.
            attn_mask: True = blocked.
            is_causal: Blocks the future.
            packing: How `query` is packed; attention then stays within each sequence.
            memory_packing: How `memory` is packed.

        Raises:
            ValueError: If `pos` or `memory_packing` is given without `memory`, only one of `query` and `memory` is
                packed, or packed tokens come with a mask.
        """
        if memory is not None:
            k, v = self.project_memory(memory, pos)
            return self.attend(
                query,
                k,
                v,
                query_pos=query_pos,
                key_padding_mask=key_padding_mask,
                attn_mask=attn_mask,
                is_causal=is_causal,
                packing=packing,
                memory_packing=memory_packing,
            )
        if pos is not None:
            raise ValueError("pos belongs to memory; in self-attention give query_pos, which serves both")
        if memory_packing is not None:
            raise ValueError("memory_packing belongs to memory; in self-attention give packing, which serves both")
        if packing is not None:
            packing.check(query, key_padding_mask, attn_mask)
        q, k, v = self._project_self(query, query_pos)
        if self.rotary is not None:
            positions = Past().positions(query.shape[1], query.device) if packing is None else packing.positions()
            q, k = self.rotary(q, positions), self.rotary(k, positions)
        return self._mix(q, k, v, key_padding_mask, attn_mask, packing, packing, is_causal=is_causal)

    def decode(
        self,
        query: Queries,
        cache: Cache,
        past: Past,
        *,
        query_pos: Float[Tensor, "#batch query_len embed_dim"] | None = None,
        key_padding_mask: Bool[Tensor, "batch query_len"] | None = None,
    ) -> Queries:
        """Causal self-attention of new tokens to themselves and to those before, as `Attention.decode` has it."""
        q, k, v = self._project_self(query, query_pos)
        if self.rotary is not None:
            positions = past.positions(query.shape[1], query.device)
            q, k = self.rotary(q, positions), self.rotary(k, positions)
        return self._join(self.attention.decode(q, k, v, cache, past, key_padding_mask=key_padding_mask))

    def project_memory(
        self, memory: Keys, pos: Float[Tensor, "#batch key_len embed_dim"] | None = None
    ) -> tuple[HeadKeys, HeadKeys]:
        """Keys and values of `memory`, for `attend`: once, however often it is asked."""
        if pos is None:
            k, v = self._split(self._rows(memory, 1, 3), 2)
        else:
            (k,) = self._split(self._rows(memory + pos, 1, 2), 1)
            (v,) = self._split(self._rows(memory, 2, 3), 1)
        return k, v

    def attend(
        self,
        query: Queries,
        k: HeadKeys,
        v: HeadKeys,
        *,
        query_pos: Float[Tensor, "#batch query_len embed_dim"] | None = None,
        key_padding_mask: KeyPaddingMask | None = None,
        attn_mask: AttentionMask | None = None,
        is_causal: bool = False,
        packing: Packing | None = None,
        memory_packing: Packing | None = None,
    ) -> Queries:
        """Attends from `query` to a memory that `project_memory` has projected; the arguments are `forward`'s."""
        if (packing is None) != (memory_packing is None):
            raise ValueError("packing and memory_packing: query and memory are both packed, or neither is")
        if packing is not None:
            packing.check(query, key_padding_mask, attn_mask)
        (q,) = self._split(self._rows(query if query_pos is None else query + query_pos, 0, 1), 1)
        return self._mix(q, k, v, key_padding_mask, attn_mask, packing, memory_packing, is_causal=is_causal)

    def _mix(
        self,
        q: HeadQueries,
        k: HeadKeys,
        v: HeadKeys,
        key_padding_mask: KeyPaddingMask | None,
        attn_mask: AttentionMask | None,
        packing: Packing | None,
        memory_packing: Packing | None,
        *,
        is_causal: bool,
    ) -> Queries:
        """The mechanism and the projection out of the heads; packed, each sequence by itself and without a mask."""
        if packing is None or memory_packing is None:
            mixed = self.attention(q, k, v, key_padding_mask=key_padding_mask, attn_mask=attn_mask, is_causal=is_causal)
            return self._join(mixed)
        if len(packing.lengths) != len(memory_packing.lengths):
            raise ValueError(
                f"packing has {len(packing.lengths)} sequences, memory_packing {len(memory_packing.lengths)}"
            )
        keys, values = k.split(memory_packing.lengths, 2), v.split(memory_packing.lengths, 2)
        mixed = [
            self.attention(one, key, value, is_causal=is_causal) if key.shape[2] else torch.zeros_like(one)
            for one, key, value in zip(q.split(packing.lengths, 2), keys, values, strict=True)
            if one.shape[2]
        ]
        # Joined with a token's heads side by side, as `out_proj` reads them.
        return self._join(torch.cat([one.transpose(1, 2) for one in mixed], dim=1).transpose(1, 2) if mixed else q)

    def _join(self, mixed: HeadQueries) -> Queries:
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def _project_self(self, x: Queries, pos: Tensor | None) -> tuple[HeadKeys, HeadKeys, HeadKeys]:
        # Values of one product would keep, for the backward pass, what queries and keys were before they were turned.
        if pos is None and (self.rotary is None or not torch.is_grad_enabled()):
            q, k, v = self._split(self.in_proj(x), 3)
        else:
            q, k = self._split(self._rows(x if pos is None else x + pos, 0, 2), 2)
            (v,) = self._split(self._rows(x, 2, 3), 1)
        return q, k, v

    def _rows(self, x: Tensor, first: int, last: int) -> Tensor:
        """Projects by some of W^Q, W^K, W^V: those numbered `first` to `last - 1`."""
        rows = slice(first * x.shape[-1], last * x.shape[-1])
        bias = None if self.in_proj.bias is None else self.in_proj.bias[rows]
        return linear(x, self.in_proj.weight[rows], bias)

    def _split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(batch, length, parts * embed_dim) -> `parts` times (batch, heads, length, head_dim)."""
        # Chunked and not unbound: the gradients of the parts are then joined in one pass over memory instead of two.
        return tuple(part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in x.chunk(parts, dim=2))

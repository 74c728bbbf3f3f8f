"""Projections and heads around one attention mechanism (Vaswani et al. 2017, section 3.2.2)."""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from core.attention import Attention, FullAttention
from core.types import AttentionMask, HeadKeys, KeyPaddingMask, Keys, Queries


class MultiHeadAttention(nn.Module):
    """`MultiHead(Q, K, V) = Concat(head_1, ..., head_h) W^O` (Vaswani et al. 2017, section 3.2.2).

    `head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V)`. The matrices W^Q, W^K, W^V of all heads are the rows of one,
    `in_proj`, so that a self-attention takes one product and a cross-attention two; W^O is `out_proj`.

    Args:
        embed_dim: Width of a token (d_model).
        num_heads: Number of heads (h); must divide `embed_dim`.
        attention: Makes the mechanism inside the heads; a factory, so that each layer has its own parameters.
        bias: Whether the projections have biases.

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
    ) -> None:
        super().__init__()
        if num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f"embed_dim={embed_dim} is not a multiple of num_heads={num_heads}")
        self.num_heads = num_heads
        self.in_proj = nn.Linear(embed_dim, 3 * embed_dim, bias=bias)
        self.attention = attention()
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=bias)
        nn.init.xavier_uniform_(self.in_proj.weight)
        for linear in (self.in_proj, self.out_proj):
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

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

        Raises:
            ValueError: If `pos` is given without `memory`.
        """
        if memory is None:
            if pos is not None:
                raise ValueError("pos belongs to memory; in self-attention give query_pos, which serves both")
            q, k, v = self._project_self(query, query_pos)
        else:
            q, k, v = self._project_cross(query, memory, query_pos, pos)
        mixed = self.attention(q, k, v, key_padding_mask=key_padding_mask, attn_mask=attn_mask, is_causal=is_causal)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def _project_self(self, x: Queries, pos: Tensor | None) -> tuple[HeadKeys, HeadKeys, HeadKeys]:
        if pos is None:
            q, k, v = self._split(self.in_proj(x), 3)
        else:
            q, k = self._split(self._rows(x + pos, 0, 2), 2)
            (v,) = self._split(self._rows(x, 2, 3), 1)
        return q, k, v

    def _project_cross(
        self, query: Queries, memory: Keys, query_pos: Tensor | None, pos: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        (q,) = self._split(self._rows(query if query_pos is None else query + query_pos, 0, 1), 1)
        if pos is None:
            k, v = self._split(self._rows(memory, 1, 3), 2)
        else:
            (k,) = self._split(self._rows(memory + pos, 1, 2), 1)
            (v,) = self._split(self._rows(memory, 2, 3), 1)
        return q, k, v

    def _rows(self, x: Tensor, first: int, last: int) -> Tensor:
        """Projects by some of W^Q, W^K, W^V: those numbered `first` to `last - 1`."""
        rows = slice(first * x.shape[-1], last * x.shape[-1])
        bias = None if self.in_proj.bias is None else self.in_proj.bias[rows]
        return F.linear(x, self.in_proj.weight[rows], bias)

    def _split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(batch, length, parts * embed_dim) -> `parts` times (batch, heads, length, head_dim)."""
        # Chunked and not unbound: the gradients of the parts are then joined in one pass over memory instead of two.
        return tuple(part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in x.chunk(parts, dim=2))

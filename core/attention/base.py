"""The one contract that every attention mechanism keeps."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from core.cache import Cache, KeyValueCache, Past
from core.types import AttentionMask, HeadKeys, HeadQueries, KeyPaddingMask


class Attention(nn.Module, ABC):
    """Mixes values by the likeness of queries and keys, inside heads that are already split.

    A mechanism has no projections and no flags: those belong to `core.multihead.MultiHeadAttention`. It honours every
    argument that it is given or refuses it with `ValueError`; an argument accepted and ignored is a defect.

    A mechanism that keeps another memory than all keys and values when decoding overrides `make_cache` and `decode`.
    """

    @abstractmethod
    def forward(
        self,
        q: HeadQueries,
        k: HeadKeys,
        v: HeadKeys,
        *,
        key_padding_mask: KeyPaddingMask | None = None,
        attn_mask: AttentionMask | None = None,
        is_causal: bool = False,
    ) -> HeadQueries:
        """Attends from each query to the keys that no mask leaves out.

        Args:
            q: Projected queries.
            k: Projected keys.
            v: Projected values, one a key.
            key_padding_mask: True = padding, ignored. What a padded slot holds, NaN included, changes nothing.
            attn_mask: True = blocked.
            is_causal: Blocks the keys that lie behind a query, the last query standing at the last key.

        Returns:
            A mixture of values for each query; zeros for a query that may see no key at all.

        Raises:
            ValueError: If the mechanism cannot honour an argument.
        """

    def make_cache(self) -> Cache:
        """Makes the memory that `decode` fills."""
        return KeyValueCache()

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
        """Causal attention from new tokens to themselves and to all that `cache` remembers; remembers them too.

        The result is that of `forward` over all tokens at once with `is_causal`, at the new tokens.

        Args:
            q: Queries of the new tokens.
            k: Keys of the new tokens.
            v: Values of the new tokens.
            cache: What `make_cache` has made, filled by the steps before.
            past: How many tokens each sequence has seen.
            key_padding_mask: True = a new token that is padding; it stands behind the real ones and is forgotten.

        Raises:
            ValueError: If a gradient is asked for.
        """
        assert isinstance(cache, KeyValueCache)
        k, v = without_padding(k, v, key_padding_mask)
        keys, values = cache.append(k, v, past)
        if past.longest == 0:
            return self.forward(q, k, v, key_padding_mask=key_padding_mask, is_causal=True)
        if past.lengths is None:
            return self.forward(q, keys, values, is_causal=True)
        # Each sequence's new tokens stand elsewhere: one at a time, what lies behind a sequence's own end is padding.
        slots, mixed = torch.arange(keys.shape[2], device=q.device), []
        for step in range(q.shape[2]):
            behind = slots > past.lengths[:, None] + step
            mixed.append(self.forward(q[:, :, step : step + 1], keys, values, key_padding_mask=behind))
        return torch.cat(mixed, dim=2)


def without_padding(k: HeadKeys, v: HeadKeys, key_padding_mask: KeyPaddingMask | None) -> tuple[HeadKeys, HeadKeys]:
    """Zeros for what lies in padding: a weight of zero times a NaN is NaN, so it must be gone before the product."""
    if key_padding_mask is None:
        return k, v
    padded = key_padding_mask[:, None, :, None]
    return k.masked_fill(padded, 0.0), v.masked_fill(padded, 0.0)


def try_out(attention: Attention, *, head_dim: int, query_len: int, key_len: int, is_causal: bool) -> None:
    """Asks a mechanism once, with zeros, so that a model that it cannot serve is refused when it is built.

    Raises:
        ValueError: What the mechanism says.
    """
    training = attention.training
    attention.eval()  # dropout would draw, and change the weights that are made after it
    try:
        with torch.no_grad():
            q, k = torch.zeros(1, 1, query_len, head_dim), torch.zeros(1, 1, key_len, head_dim)
            attention(q, k, k, is_causal=is_causal)
    finally:
        attention.train(training)

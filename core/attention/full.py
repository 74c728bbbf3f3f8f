"""Softmax attention of every query over every key (Vaswani et al. 2017, section 3.2.1)."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from core.attention.base import Attention, without_padding
from core.attention.short import is_short, short_attention
from core.cache import Cache, KeyValueCache, Past
from core.masks import combine_masks
from core.types import AttentionMask, HeadKeys, HeadQueries, KeyPaddingMask


class FullAttention(Attention):
    """Scaled dot-product attention, `softmax(Q K^T / sqrt(d_k)) V` (Vaswani et al. 2017, equation 1).

    Q, K and V are `q`, `k` and `v`, d_k is `head_dim`. Time is O(query_len * key_len); memory is linear in the
    length where torch has a fused kernel. Honours all masks, in every combination.

    Args:
        dropout: Probability with which an attention weight is dropped in training.

    Raises:
        ValueError: If `dropout` is not in [0, 1).
    """

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} is not a probability in [0, 1)")
        self.dropout = dropout

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
        dropout = self.dropout if self.training else 0.0
        query_len, key_len = q.shape[2], k.shape[2]
        if is_causal and query_len == 1 <= key_len:
            is_causal = False  # a single query stands at the last key and has nothing behind it
        if key_padding_mask is None and attn_mask is None:
            if not is_causal and dropout == 0 and is_short(q, k):
                return short_attention(q, k, v)
            if not is_causal or query_len == key_len:
                return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=is_causal)
        blocked = combine_masks(
            query_len,
            key_len,
            key_padding_mask=key_padding_mask,
            attn_mask=attn_mask,
            is_causal=is_causal,
            device=q.device,
        )
        assert blocked is not None
        return masked_softmax_attention(q, *without_padding(k, v, key_padding_mask), blocked, dropout=dropout)

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
        if past.lengths is None:
            return super().decode(q, k, v, cache, past, key_padding_mask=key_padding_mask)
        # All new tokens at once, and without the copy of all keys and values that `forward` makes where some are
        # padding: what the cache holds is finite.
        assert isinstance(cache, KeyValueCache)
        keys, values = cache.append(*without_padding(k, v, key_padding_mask), past)
        slots = torch.arange(keys.shape[2], device=q.device)
        blocked = slots > past.positions(q.shape[2], q.device)[:, None, :, None]
        return masked_softmax_attention(q, keys, values, blocked, dropout=self.dropout if self.training else 0.0)


def masked_softmax_attention(
    q: HeadQueries,
    k: HeadKeys,
    v: HeadKeys,
    blocked: Bool[Tensor, "#batch 1 #query_len key_len"],
    *,
    dropout: float = 0.0,
) -> HeadQueries:
    """Softmax attention of each query over the keys that are not blocked; zeros for a query that has none."""
    # SDPA's polarity is the opposite of ours: True = may attend.
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=~blocked, dropout_p=dropout)
    # What SDPA gives for a query without any key differs by backend: zeros here, always.
    return mixed.masked_fill(blocked.all(-1, keepdim=True), 0.0)

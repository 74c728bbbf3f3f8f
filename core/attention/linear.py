"""Linear attention: features in place of softmax, so that keys are summed once for all queries
(Katharopoulos et al. 2020).
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from core.attention.base import Attention
from core.attention.linear_scan import linear_attention_by_chunks
from core.attention.linear_sums import (
    Sums,
    divide,
    linear_attention,
    no_keys,
    read_sums,
    scan,
    sum_keys,
    without_autocast,
)
from core.cache import Cache, Past, refuse_gradients
from core.types import AttentionMask, HeadKeys, HeadQueries, KeyPaddingMask


class LinearState(Cache):
    """Sums over all keys so far: their number leaves no trace in memory.

    Attributes:
        sums: `phi(K)^T [V, 1]`, at least in float32; None before the first token.
    """

    def __init__(self) -> None:
        self.sums: Sums | None = None

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        if self.sums is not None:
            self.sums = self.sums[rows]


class LinearAttention(Attention):
    """Attention by the feature map `phi(x) = elu(x) + 1` (Katharopoulos et al. 2020, "Transformers are RNNs").

    `output_i = phi(q_i) S_i / (phi(q_i) z_i)` with `S_i = sum_j phi(k_j)^T v_j` and `z_i = sum_j phi(k_j)^T`, over all
    keys j or, under `is_causal`, over those that do not lie in the future. That is a mixture of values with the weights
    `phi(q_i) phi(k_j)^T`, normalised to the sum 1, which are never written out but between near tokens.

    Time and memory are O(length * head_dim); a step of decoding takes O(head_dim^2), however many tokens came before.
    Sums and normaliser are in float32 at least. Where all channels of a query are far below 0, its features would
    underflow: they are scaled by a number that the normaliser cancels. A key whose features underflow weighs nothing.
    Honours `key_padding_mask` and `is_causal`, also for fewer queries than keys; refuses `attn_mask`, which is about
    pairs, of which there are none here.
    """

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
        query_len, key_len = q.shape[2], k.shape[2]
        if attn_mask is not None:
            raise ValueError("attn_mask: LinearAttention sums keys once for all queries, and can block none for one")
        if is_causal and key_len < query_len:
            raise ValueError(
                f"causal attention needs key_len >= query_len, got key_len={key_len}, query_len={query_len}"
            )
        attend = linear_attention if torch.compiler.is_compiling() else linear_attention_by_chunks
        with without_autocast(q):
            return attend(q, k, v, key_padding_mask, is_causal)

    def make_cache(self) -> LinearState:
        return LinearState()

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
        assert isinstance(cache, LinearState)
        refuse_gradients(k)
        with without_autocast(q):
            sums = no_keys(k) if cache.sums is None else cache.sums
            if q.shape[2] == 1:
                cache.sums = sums + sum_keys(k, v, key_padding_mask)
                mixed = read_sums(q, cache.sums)
            else:
                mixed, cache.sums = scan(q, k, v, key_padding_mask, sums)
            return divide(mixed).to(q.dtype)

"""What mechanisms have in common whose queries see some of the keys, by a fixed rule on the two positions."""

from abc import abstractmethod

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from core.attention.base import Attention, without_padding
from core.attention.flex import attend_by_flex
from core.attention.full import masked_softmax_attention
from core.masks import combine_masks
from core.types import AttentionMask, HeadKeys, HeadQueries, KeyPaddingMask

Padding = Bool[Tensor, "#batch query_len"]
"""True = padding; one row where all sequences are alike."""


class PatternAttention(Attention):
    """Softmax attention over the pairs of tokens that a rule on their positions leaves free.

    The rule is said once, in `blocks_pair`, and computed in three ways with the same result: short sequences as one
    masked product of all pairs, the fastest way there; longer ones by blocks; on CUDA by torch's flex_attention.

    Attributes:
        dense_length: Up to so many tokens all pairs are computed.
    """

    dense_length: int

    @abstractmethod
    def blocks_pair(self, query: Int[Tensor, "*queries"], key: Int[Tensor, "*keys"]) -> Bool[Tensor, "*pairs"]:
        """True where the pattern keeps the token at position `query` from seeing the one at `key`; they broadcast."""

    @abstractmethod
    def attend_by_blocks(
        self, q: HeadQueries, k: HeadQueries, v: HeadQueries, padding: Padding, is_causal: bool
    ) -> HeadQueries:
        """Computes the pattern's blocks alone."""

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
        name, length = type(self).__name__, k.shape[2]
        if attn_mask is not None:
            raise ValueError(f"attn_mask: {name} has a pattern of its own, and no time or memory for all pairs")
        if q.shape[2] != length:
            raise ValueError(
                f"{name} goes by the distance of tokens, so queries and keys are the same tokens; got "
                f"query_len={q.shape[2]}, key_len={length}"
            )
        k, v = without_padding(k, v, key_padding_mask)
        if torch.compiler.is_exporting():  # one way for every length, so that the length stays free
            return self._by_blocks(q, k, v, key_padding_mask, is_causal)
        if length <= self.dense_length:
            places = torch.arange(length, device=q.device)
            blocked = combine_masks(
                length,
                length,
                key_padding_mask=key_padding_mask,
                attn_mask=self.blocks_pair(places[:, None], places),
                is_causal=is_causal,
                device=q.device,
            )
            assert blocked is not None
            return masked_softmax_attention(q, k, v, blocked)
        if q.is_cuda and not torch.compiler.is_compiling():
            return attend_by_flex(q, k, v, self.blocks_pair, key_padding_mask, is_causal)
        return self._by_blocks(q, k, v, key_padding_mask, is_causal)

    def _by_blocks(
        self, q: HeadQueries, k: HeadKeys, v: HeadKeys, key_padding_mask: KeyPaddingMask | None, is_causal: bool
    ) -> HeadQueries:
        if key_padding_mask is None:
            key_padding_mask = torch.zeros(1, k.shape[2], dtype=torch.bool, device=k.device)
        return self.attend_by_blocks(q, k, v, key_padding_mask, is_causal)

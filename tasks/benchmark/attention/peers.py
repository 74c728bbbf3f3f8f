"""What the mechanisms are held against: layers of equal work that owe nothing to the core's attention."""

from collections.abc import Callable
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.types import Tokens


class BareSDPA(nn.Module):
    """torch's `scaled_dot_product_attention` between two projections, and nothing else.

    Args:
        width: Width of a token.
        heads: Number of heads.
        mask: Makes a mask from a length and whether it is causal, True = may attend (torch's polarity here); made once
            for each and then kept, as a model would. None = SDPA's own `is_causal`.
    """

    def __init__(self, width: int, heads: int, mask: Callable[[int, bool], Tensor] | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.mask = None if mask is None else cache(mask)

    def forward(self, x: Tokens, *, is_causal: bool = False) -> Tokens:
        """Attends from every token to those that it may see."""
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.in_proj(x).chunk(3, dim=2))
        if self.mask is None:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask(x.shape[1], is_causal))
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


def band_mask(length: int, is_causal: bool, *, window: int, global_tokens: int) -> Tensor:
    """Longformer's pattern as a dense mask, (length, length), True = may attend; made in place, a byte a pair.

    >>> band_mask(4, False, window=2, global_tokens=1).int().tolist()
    [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 1, 1]]
    """
    sees = torch.ones(length, length, dtype=torch.bool).tril_(window // 2).triu_(-(window // 2))
    sees[:global_tokens] = True
    sees[:, :global_tokens] = True
    return sees.tril_() if is_causal else sees


def band_sdpa(width: int, heads: int, window: int, global_tokens: int) -> BareSDPA:
    """SDPA under Longformer's pattern as a dense mask: exact, and as costly as full attention."""
    return BareSDPA(width, heads, partial(band_mask, window=window, global_tokens=global_tokens))


class PublishedLongformer(nn.Module):
    """transformers' `LongformerSelfAttention` and an output projection; sequences are padded as its model pads them.

    Its global tokens have projections of their own, so that it is not the same function as the core's.

    Args:
        width: Width of a token.
        heads: Number of heads.
        window: Width of the window, half of it on each side of a token.
        global_tokens: So many tokens at the start see all and are seen by all.
    """

    def __init__(self, width: int, heads: int, window: int, global_tokens: int) -> None:
        from transformers.models.longformer.configuration_longformer import LongformerConfig
        from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

        super().__init__()
        self.window = window
        self.global_tokens = global_tokens
        config = LongformerConfig(
            hidden_size=width,
            num_attention_heads=heads,
            attention_window=[window],
            num_hidden_layers=1,
            attention_probs_dropout_prob=0.0,
        )
        self.attention = LongformerSelfAttention(config, layer_id=0)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tokens, *, is_causal: bool = False) -> Tokens:
        """Attends from every token to its window and the global tokens.

        Raises:
            ValueError: If a causal pattern is asked for: transformers has none.
        """
        if is_causal:
            raise ValueError("transformers' Longformer has no causal form")
        length = x.shape[1]
        padded = F.pad(x, (0, 0, 0, -length % self.window))
        mask = x.new_zeros(padded.shape[:2])  # 0 = sees its window, below = padding, above = global
        mask[:, : self.global_tokens] = 10000.0
        mask[:, length:] = -10000.0
        mixed = self.attention(
            padded,
            attention_mask=mask,
            is_index_masked=mask < 0,
            is_index_global_attn=mask > 0,
            is_global_attn=self.global_tokens > 0,
        )[0]
        return self.out_proj(mixed[:, :length])

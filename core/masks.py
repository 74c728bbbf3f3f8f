"""Masks: from lengths to padding, causality, and how masks combine. True = left out (see `core.types`)."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from core.types import AttentionMask, KeyPaddingMask


def padding_mask(lengths: Int[Tensor, " batch"], max_length: int | None = None) -> Bool[Tensor, "batch length"]:
    """Marks the slots behind each sequence's end.

    Args:
        lengths: Number of real tokens of each sequence.
        max_length: Width of the mask; the longest sequence if not given.

    Returns:
        True where a slot is padding.

    Raises:
        ValueError: If a length is negative or exceeds `max_length`; what is traced with `max_length` is not checked.

    >>> padding_mask(torch.tensor([1, 3])).int().tolist()
    [[0, 1, 1], [0, 0, 0]]
    """
    if max_length is None or not torch.compiler.is_compiling():  # a graph knows no values
        max_length = _checked_width(lengths, max_length)
    return torch.arange(max_length, device=lengths.device) >= lengths.unsqueeze(1)


def _checked_width(lengths: Int[Tensor, " batch"], max_length: int | None) -> int:
    longest = int(lengths.max()) if lengths.numel() else 0
    width = longest if max_length is None else max_length
    if longest > width:
        raise ValueError(f"max_length={max_length} is less than the longest of lengths ({longest})")
    if lengths.numel() and int(lengths.min()) < 0:
        raise ValueError(f"lengths must not be negative, got {int(lengths.min())}")
    return width


def causal_mask(
    query_len: int, key_len: int | None = None, *, device: torch.device | str | None = None
) -> AttentionMask:
    """Blocks the future. The last query stands at the last key, so that cached keys lie in the past.

    Args:
        query_len: Number of queries.
        key_len: Number of keys, `query_len` if not given.
        device: Where the mask is made.

    Raises:
        ValueError: If there are fewer keys than queries: the first queries would have nothing to see.

    >>> causal_mask(2, 3).int().tolist()
    [[0, 0, 1], [0, 0, 0]]
    """
    key_len = query_len if key_len is None else key_len
    if key_len < query_len:
        raise ValueError(f"a causal mask needs key_len >= query_len, got key_len={key_len}, query_len={query_len}")
    return torch.ones(query_len, key_len, dtype=torch.bool, device=device).triu(key_len - query_len + 1)


def combine_masks(
    query_len: int,
    key_len: int,
    *,
    key_padding_mask: KeyPaddingMask | None = None,
    attn_mask: AttentionMask | None = None,
    is_causal: bool = False,
    device: torch.device | str | None = None,
) -> Bool[Tensor, "#batch 1 #query_len key_len"] | None:
    """The union of all masks: a key is left out as soon as one of them says so.

    Returns:
        True = blocked, in a shape that broadcasts over `(batch, heads, query_len, key_len)`; None if nothing is.
    """
    blocked = None
    if attn_mask is not None:
        blocked = attn_mask[None, None]
    if is_causal:
        causal = causal_mask(query_len, key_len, device=device)[None, None]
        blocked = causal if blocked is None else blocked | causal
    if key_padding_mask is not None:
        padded = key_padding_mask[:, None, None, :]
        blocked = padded if blocked is None else blocked | padded
    return blocked

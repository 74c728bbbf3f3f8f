"""A pattern on CUDA: torch's flex_attention, which computes only the blocks of 128 x 128 that the pattern touches."""

from collections.abc import Callable
from functools import cache, lru_cache

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from core.types import HeadKeys, HeadQueries, KeyPaddingMask

BLOCK = 128

BlocksPair = Callable[[Tensor, Tensor], Tensor]


def attend_by_flex(
    q: HeadQueries,
    k: HeadKeys,
    v: HeadKeys,
    blocks_pair: BlocksPair,
    key_padding_mask: KeyPaddingMask | None,
    is_causal: bool,
) -> HeadQueries:
    """Softmax attention over the pairs that `blocks_pair` and the masks leave free; zeros for a query without keys."""
    touched = _touched_blocks(blocks_pair, q.shape[2], is_causal, q.device)

    def free(batch: Tensor, _: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = ~blocks_pair(query, key)
        if is_causal:
            seen = seen & (key <= query)
        return seen if key_padding_mask is None else seen & ~key_padding_mask[batch, key]

    mask = BlockMask.from_kv_blocks(*touched, BLOCK_SIZE=BLOCK, mask_mod=free, seq_lengths=(q.shape[2], k.shape[2]))
    mixed = _kernel(q.is_cuda)(q, k, v, block_mask=mask)
    assert isinstance(mixed, Tensor)
    return mixed


@cache
def _kernel(fused: bool) -> Callable[..., Tensor | tuple[Tensor, ...]]:
    # Without compilation flex_attention computes all pairs: right, but neither fast nor small.
    return torch.compile(flex_attention, dynamic=True) if fused else flex_attention


@lru_cache(maxsize=64)
def _touched_blocks(
    blocks_pair: BlocksPair, length: int, is_causal: bool, device: torch.device
) -> tuple[Tensor, Tensor]:
    """For each block of queries the number of key blocks with a free pair, and which, those first.

    Evaluates the rule a block of queries at a time, so that memory stays linear in the length; once a length.
    """
    blocks = -(-length // BLOCK)
    keys = torch.arange(blocks * BLOCK, device=device)
    touched = []
    for first in range(0, length, BLOCK):
        queries = torch.arange(first, first + BLOCK, device=device)[:, None]
        free = ~blocks_pair(queries, keys)
        if is_causal:
            free = free & (keys <= queries)
        touched.append(free.unflatten(1, (blocks, BLOCK)).any(2).any(0))
    rows = torch.stack(touched)[None, None]
    return rows.sum(-1, dtype=torch.int32), torch.argsort(rows.int(), dim=-1, descending=True, stable=True).int()

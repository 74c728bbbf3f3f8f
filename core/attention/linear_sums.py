"""What linear attention computes, for any length in plain tensor operations: sums over keys, and queries reading them.

`linear_attention` is the definition. Compilers and exporters get it as it stands; otherwise
`core.attention.linear_scan` computes the same by chunks.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from core.attention.base import without_padding
from core.types import HeadKeys, HeadQueries

BLOCK = 64
"""Tokens between which causal attention writes the products `phi(Q) phi(K)^T` out."""

Padding = Bool[Tensor, "batch key_len"] | None
Extended = Float[Tensor, "batch heads key_len head_dim_and_1"]
Mixed = Float[Tensor, "batch heads query_len head_dim_and_1"]
Sums = Float[Tensor, "batch heads head_dim head_dim_and_1"]
Blocks = Float[Tensor, "batch heads blocks block width"]


def linear_attention(q: HeadQueries, k: HeadKeys, v: HeadKeys, padding: Padding, is_causal: bool) -> HeadQueries:
    """`phi(Q) S / (phi(Q) Z)`: S and Z sum over all keys or, if causal, over those up to the query's own."""
    k, v = without_padding(k, v, padding)
    if not is_causal:
        return divide(read_sums(q, sum_keys(k, v, padding))).to(q.dtype)
    past = k.shape[2] - q.shape[2]  # keys before the first query's own, which every query sees
    if past == 0:
        return divide(scan(q, k, v, padding, no_keys(k))[0]).to(q.dtype)
    seen = None if padding is None else padding[:, :past]
    rest = None if padding is None else padding[:, past:]
    sums = sum_keys(k[:, :, :past], v[:, :, :past], seen)
    return divide(scan(q, k[:, :, past:], v[:, :, past:], rest, sums)[0]).to(q.dtype)


def sum_keys(k: HeadKeys, v: HeadKeys, padding: Padding) -> Sums:
    """`[S, Z] = phi(K)^T [V, 1]`: the normaliser's sum Z stands beside S, as that of values which are all 1."""
    phi, values = key_features(k, padding), with_ones(v, padding)
    return phi.mT @ values


def read_sums(q: HeadQueries, sums: Sums) -> Mixed:
    """`phi(Q) [S, Z]`."""
    return query_features(q) @ sums


def scan(q: HeadQueries, k: HeadKeys, v: HeadKeys, padding: Padding, sums: Sums) -> tuple[Mixed, Sums]:
    """What each query reads of `sums` and of the keys up to its own; and the sums after the last key.

    A key for each query. Between the tokens of a block the products are written out, `(phi(Q) phi(K)^T) [V, 1]`
    below the diagonal; what lies before the block is in its sums.
    """
    length = q.shape[2]
    queries, keys = into_blocks(query_features(q)), into_blocks(key_features(k, padding))
    values = into_blocks(with_ones(v, padding))
    states = torch.cat([sums.unsqueeze(2), keys.mT @ values], dim=2).cumsum(2)
    mixed = (queries @ keys.mT).tril() @ values + queries @ states[:, :, :-1]
    # Contiguous, or the strides would tell compilers the number of blocks, and each length be another graph.
    return mixed.flatten(2, 3)[:, :, :length].contiguous(), states[:, :, -1]


def divide(mixed: Mixed) -> HeadQueries:
    """The mixture of values by the mixture of ones."""
    return mixed[..., :-1] / normaliser_of(mixed)


def normaliser_of(mixed: Mixed) -> Float[Tensor, "batch heads query_len 1"]:
    """The mixture of ones; infinity for a query that sees no key, so that its output and all its gradients are 0."""
    ones = mixed[..., -1:]
    return ones.masked_fill(ones < torch.finfo(ones.dtype).tiny ** 0.5, torch.inf)


def features(x: HeadKeys) -> HeadKeys:
    """`phi(x) = elu(x) + 1`, without the digits that adding 1 costs a negative x. Its derivative is `min(phi, 1)`."""
    positive = x.relu()
    return positive + (x - positive).exp_()


def query_features(q: HeadQueries) -> HeadQueries:
    """`phi(q)` times a number for each query, which its normaliser cancels, so that not all of them underflow.

    Where all channels of a query are negative, they are lifted together until the highest is 0.
    """
    q = in_sum_precision(q)
    return features(q - q.detach().amax(-1, keepdim=True).clamp(max=0))


def key_features(k: HeadKeys, padding: Padding) -> HeadKeys:
    """`phi(k)`, and 0 in padding."""
    phi = features(in_sum_precision(k))
    return phi if padding is None else phi.masked_fill(padding[:, None, :, None], 0.0)


def with_ones(v: HeadKeys, padding: Padding) -> Extended:
    """`[v, 1]`, and 0 in padding."""
    extended = F.pad(in_sum_precision(v), (0, 1), value=1.0)
    return extended if padding is None else extended.masked_fill(padding[:, None, :, None], 0.0)


def no_keys(k: HeadKeys) -> Sums:
    """The sums over no key."""
    batch, heads, _, head_dim = k.shape
    return in_sum_precision(k.new_zeros(batch, heads, head_dim, head_dim + 1))


def in_sum_precision(x: Tensor) -> Tensor:
    """At least float32: a sum over many keys."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Where autocast would multiply in half precision, stops it."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def into_blocks(x: Float[Tensor, "batch heads length width"]) -> Blocks:
    """Splits the length; zeros, which add nothing, fill the last block and one more.

    One more, since to compilers a number of blocks that is 1 is another graph than all others.
    """
    batch, heads, length, width = x.shape
    blocks = (length + BLOCK - 1) // BLOCK + 1
    return F.pad(x, (0, 0, 0, blocks * BLOCK - length)).reshape(batch, heads, blocks, BLOCK, width)

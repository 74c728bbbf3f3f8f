"""Linear attention by chunks that stay in a processor's cache, with derivatives.

Nothing is kept for the backward pass but what came in, what went out, and sums: the features are made again there.
`mixed` is `[numerator, normaliser]`, as in `core.attention.linear_sums`; `dx` is a loss's gradient by `x`.
"""

from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from core.attention import linear_sums
from core.attention.linear_sums import (
    Padding,
    in_sum_precision,
    key_features,
    no_keys,
    normaliser_of,
    query_features,
    read_sums,
    sum_keys,
    with_ones,
    without_autocast,
)
from core.types import HeadKeys, HeadQueries

CHUNK = {"cpu": 2**18}
"""Numbers in a chunk of queries: a megabyte, so that what is made of it stays in the cache of a core or two."""

CHUNK_ELSEWHERE = 2**22


def linear_attention_by_chunks(
    q: HeadQueries, k: HeadKeys, v: HeadKeys, padding: Padding, is_causal: bool
) -> HeadQueries:
    """`core.attention.linear_sums.linear_attention`, faster and in less memory."""
    (batch, heads, query_len, _), key_len = q.shape, k.shape[2]
    if batch * heads * query_len * key_len <= chunk_size(q):
        return Pairs.apply(q, k, v, padding, is_causal)
    if not is_causal:
        return ReadSums.apply(q, SumKeys.apply(k, v, padding))
    past = key_len - query_len  # keys before the first query's own, which every query sees
    if past == 0:
        return Scan.apply(q, k, v, padding, no_keys(k))
    (seen_k, k), (seen_v, v) = (x.split([past, query_len], dim=2) for x in (k, v))
    seen_padding, padding = (None, None) if padding is None else padding.split([past, query_len], dim=1)
    return Scan.apply(q, k, v, padding, SumKeys.apply(seen_k, seen_v, seen_padding))


class Pairs(torch.autograd.Function):
    """All products `phi(Q) phi(K)^T` written out: what is short has few of them, and needs the fewest steps so."""

    @staticmethod
    def forward(ctx, q, k, v, padding, is_causal):
        phi_q, phi_k, values = query_features(q), key_features(k, padding), with_ones(v, padding)
        scores = phi_q @ phi_k.mT
        if is_causal:
            scores.tril_(k.shape[2] - q.shape[2])
        output = empty_like(q)
        normaliser = divide(scores @ values, output)
        ctx.save_for_backward(phi_q, phi_k, values, scores, output, normaliser)
        ctx.is_causal = is_causal
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, doutput):  # pyright: ignore[reportIncompatibleMethodOverride]
        phi_q, phi_k, values, scores, output, normaliser = ctx.saved_tensors
        with without_autocast(doutput):
            dmixed = gradient_of_mixed(doutput, output, normaliser)
            dscores = dmixed @ values.mT
            if ctx.is_causal:
                dscores.tril_(phi_k.shape[2] - phi_q.shape[2])
            dq, dk, dv = empty_like(output), empty_like(phi_k, output.dtype), empty_like(phi_k, output.dtype)
            write_gradient(dscores @ phi_k, phi_q, dq)
            write_gradient(dscores.mT @ phi_q, phi_k, dk)
            dv.copy_(scores.mT @ dmixed[..., :-1])
        return dq, dk, dv, None, None


class SumKeys(torch.autograd.Function):
    """`core.attention.linear_sums.sum_keys`."""

    @staticmethod
    def forward(ctx, k, v, padding):
        ctx.save_for_backward(k, v, padding)
        sums = no_keys(k)
        for chunk in chunks_of(k):
            sums += sum_keys(cut(k, chunk), v[:, :, chunk], cut_padding(padding, chunk))
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx, dsums):  # pyright: ignore[reportIncompatibleMethodOverride]
        k, v, padding = ctx.saved_tensors
        dk, dv = empty_like(k), empty_like(v)
        with without_autocast(k):
            for chunk in chunks_of(k):
                padded = cut_padding(padding, chunk)
                phi, values = key_features(cut(k, chunk), padded), with_ones(v[:, :, chunk], padded)
                write_gradient(values @ dsums.mT, phi, dk[:, :, chunk])
                dv[:, :, chunk] = phi @ dsums[..., :-1]
        return dk, dv, None


class ReadSums(torch.autograd.Function):
    """`core.attention.linear_sums.read_sums`, divided."""

    @staticmethod
    def forward(ctx, q, sums):
        output, normaliser = empty_like(q), sums.new_empty(*q.shape[:3], 1)
        for chunk in chunks_of(q):
            normaliser[:, :, chunk] = divide(read_sums(cut(q, chunk), sums), output[:, :, chunk])
        ctx.save_for_backward(q, sums, output, normaliser)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, doutput):  # pyright: ignore[reportIncompatibleMethodOverride]
        q, sums, output, normaliser = ctx.saved_tensors
        dq, dsums = empty_like(q), torch.zeros_like(sums)
        with without_autocast(q):
            for chunk in chunks_of(q):
                phi = query_features(cut(q, chunk))
                dmixed = gradient_of_mixed(doutput[:, :, chunk], output[:, :, chunk], normaliser[:, :, chunk])
                write_gradient(dmixed @ sums.mT, phi, dq[:, :, chunk])
                dsums += phi.mT @ dmixed
        return dq, dsums


class Scan(torch.autograd.Function):
    """`core.attention.linear_sums.scan`, divided: forwards with the sums, and backwards with their gradient."""

    @staticmethod
    def forward(ctx, q, k, v, padding, sums):
        output, normaliser = empty_like(q), sums.new_empty(*q.shape[:3], 1)
        starts = []
        for chunk in chunks_of(q):
            padded = cut_padding(padding, chunk)
            queries, keys = into_blocks(query_features(cut(q, chunk))), into_blocks(key_features(cut(k, chunk), padded))
            values = into_blocks(with_ones(v[:, :, chunk], padded))
            starts.append(sums)
            before, sums = running_sums(sums, keys.mT @ values)
            mixed = (queries @ keys.mT).tril_() @ values + queries @ before
            normaliser[:, :, chunk] = divide(out_of_blocks(mixed, chunk), output[:, :, chunk])
        ctx.save_for_backward(q, k, v, padding, output, normaliser, *starts)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, doutput):  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, padding, output, normaliser, *starts = ctx.saved_tensors
        dq, dk, dv = empty_like(q), empty_like(k), empty_like(v)
        dsums = torch.zeros_like(starts[0])
        with without_autocast(q):
            for chunk, sums in zip(chunks_of(q)[::-1], starts[::-1], strict=True):
                padded = cut_padding(padding, chunk)
                phi_q, phi_k = query_features(cut(q, chunk)), key_features(cut(k, chunk), padded)
                dmixed = gradient_of_mixed(doutput[:, :, chunk], output[:, :, chunk], normaliser[:, :, chunk])
                queries, keys, dmixed = into_blocks(phi_q), into_blocks(phi_k), into_blocks(dmixed)
                values = into_blocks(with_ones(v[:, :, chunk], padded))
                scores, dscores = (queries @ keys.mT).tril_(), (dmixed @ values.mT).tril_()
                before, _ = running_sums(sums, keys.mT @ values)
                dafter, dsums = running_sums(dsums, queries.mT @ dmixed, backwards=True)
                dphi_q = dscores @ keys + dmixed @ before.mT
                dphi_k = dscores.mT @ queries + values @ dafter.mT
                dvalues = scores.mT @ dmixed + keys @ dafter
                write_gradient(out_of_blocks(dphi_q, chunk), phi_q, dq[:, :, chunk])
                write_gradient(out_of_blocks(dphi_k, chunk), phi_k, dk[:, :, chunk])
                dv[:, :, chunk] = out_of_blocks(dvalues, chunk)[..., :-1]
        return dq, dk, dv, None, dsums


def divide(mixed: Tensor, output: Tensor) -> Tensor:
    """Writes the quotient into `output` and gives the normaliser."""
    normaliser = normaliser_of(mixed)
    torch.div(mixed[..., :-1], normaliser, out=output)
    return normaliser


def gradient_of_mixed(doutput: Tensor, output: Tensor, normaliser: Tensor) -> Tensor:
    """The gradient of what was divided."""
    dmixed = normaliser.new_empty(*output.shape[:3], output.shape[3] + 1)
    dnumerator = torch.div(doutput, normaliser, out=dmixed[..., :-1])
    torch.sum(dnumerator * output, -1, keepdim=True, out=dmixed[..., -1:]).neg_()
    return dmixed


def write_gradient(dphi: Tensor, phi: Tensor, dx: Tensor) -> None:
    """The gradient of what has the features `phi`, their derivative being `min(phi, 1)`."""
    torch.mul(dphi, phi.clamp(max=1), out=dx)


def running_sums(first: Tensor, added: Tensor, *, backwards: bool = False) -> tuple[Tensor, Tensor]:
    """What `first` has become before each block adds, from the last block on if `backwards`; and after all."""
    blocks = added.unbind(2)
    *before, after = accumulate(blocks[::-1] if backwards else blocks, initial=first)
    return torch.stack(before[::-1] if backwards else before, dim=2), after


def into_blocks(x: Tensor) -> Tensor:
    """(batch, heads, length, width) -> (batch, heads, blocks, block, width); zeros, which add nothing, fill up."""
    block = linear_sums.BLOCK
    if x.shape[2] % block:
        x = F.pad(x, (0, 0, 0, -x.shape[2] % block))
    return x.unflatten(2, (-1, block))


def out_of_blocks(x: Tensor, chunk: slice) -> Tensor:
    """(batch, heads, blocks, block, width) -> (batch, heads, length of the chunk, width)."""
    return x.flatten(2, 3)[:, :, : chunk.stop - chunk.start]


def chunk_size(x: Tensor) -> int:
    """How many numbers a chunk has on `x`'s device."""
    return CHUNK.get(x.device.type, CHUNK_ELSEWHERE)


def chunks_of(x: Tensor) -> list[slice]:
    """Parts of the length, of whole blocks but for the last."""
    batch, heads, length, head_dim = x.shape
    blocks = chunk_size(x) // (batch * heads * head_dim * linear_sums.BLOCK)
    step = max(blocks, 1) * linear_sums.BLOCK
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def cut(x: Tensor, chunk: slice) -> Tensor:
    """A chunk, each head's tokens side by side, as the products take them."""
    return in_sum_precision(x[:, :, chunk]).contiguous()


def cut_padding(padding: Tensor | None, chunk: slice) -> Tensor | None:
    """A chunk's padding."""
    return None if padding is None else padding[:, chunk]


def empty_like(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Room in the order of the projections around the heads, so that joining the heads moves nothing."""
    batch, heads, length, head_dim = x.shape
    return x.new_empty(batch, length, heads, head_dim, dtype=dtype).transpose(1, 2)

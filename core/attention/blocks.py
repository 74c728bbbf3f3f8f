"""Softmax attention over a sparse pattern, by blocks: of queries that share their keys, all dense inside.

A pattern is a list of `Part`s. Each says, by views of the tensors and without a copy, which blocks of queries meet
which blocks of keys. A query may stand in several parts that have no key in common; its softmax is over all of them.
Time and memory are those of the blocks alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor
from torch.autograd.function import once_differentiable

from core.types import HeadKeys, HeadQueries

View = Callable[[Tensor], Tensor]
"""(batch, heads, length, width) -> (batch, blocks, heads, rows, width), without a copy."""

LOWEST = -1e30
"""The score of a blocked key. Finite, so that a query without any key meets no infinity minus infinity."""

CHUNK_ROWS = 4096
"""Rows (of all heads) that are computed together on a CPU: their scores and gradients then stay in its cache."""


def blocks_for(length: int, rows: int) -> int:
    """How many blocks of `rows` tokens hold `length` tokens; while a graph is compiled or exported one more.

    There are then at least two blocks, and `rows` empty places or more: a graph is bound to the lengths that give the
    same count where a count may be 0 or 1.
    """
    compiling = torch.compiler.is_compiling()
    return (length + (2 * rows if compiling else rows) - 1) // rows


def in_blocks(x: Tensor, *, first: int, blocks: int, rows: int, step: int = 1, residue: int = 0) -> Tensor:
    """From `first` on, blocks of `rows` tokens, of which only each `step`-th counts, beginning with `residue`."""
    tokens = x[:, :, first : first + blocks * rows * step].unflatten(2, (blocks, rows, step))
    return tokens[:, :, :, :, residue].transpose(1, 2)


def in_columns(x: Tensor, *, first: int, rows: int, columns: int) -> Tensor:
    """From `first` on, `columns` blocks, the tokens of each standing `columns` apart."""
    return x[:, :, first : first + rows * columns].unflatten(2, (rows, columns)).permute(0, 3, 1, 2, 4)


def shared(x: Tensor, *, first: int, count: int, blocks: int) -> Tensor:
    """From `first` on, `count` tokens, the same for every block."""
    return x[:, :, first : first + count].unsqueeze(1).expand(-1, blocks, -1, -1, -1)


@dataclass(frozen=True)
class Part:
    """Blocks of queries, each with the keys that it sees.

    Attributes:
        queries: Gives the blocks of queries.
        keys: Each gives some keys of every block; side by side they are a block's keys.
        band: True = blocked, in every block alike.
        blocked: True = blocked, for every query of a block.
        extends: Whether earlier parts have these queries too, with other keys: the softmax is over all of them.
        replaces: Whether earlier parts have these queries too, but what they gave is not wanted.
    """

    queries: View
    keys: Sequence[View]
    band: Bool[Tensor, "rows keys"]
    blocked: Bool[Tensor, "#batch blocks keys"]
    extends: bool = False
    replaces: bool = False


@dataclass(frozen=True)
class Layout:
    """How keys and values are laid out for the parts' views: some of them once more in front, empty places around all.

    Attributes:
        before: Empty places before the tokens.
        after: Empty places behind them.
        front_size: How many tokens stand in front once more.
        front: Gives these from tokens with their empty places: (batch, heads, places, width) -> (batch, heads, ...,
            width), a view.
    """

    before: int
    after: int
    front_size: int = 0
    front: View = lambda x: x[:, :, :0]

    def __call__(self, x: Tensor) -> Tensor:
        """Lays out, in one pass over memory."""
        length = x.shape[2]
        laid = _like_tokens(x, self.front_size + self.before + length + self.after)
        places = laid[:, :, self.front_size :]
        places[:, :, : self.before] = 0.0
        places[:, :, self.before : self.before + length] = x
        places[:, :, self.before + length :] = 0.0
        if self.front_size:
            laid[:, :, : self.front_size] = self.front(places).flatten(2, -2)
        return laid

    def take_back(self, laid: Tensor, length: int) -> Tensor:
        """The derivative of laying out: what a token got in both of its places, in the memory of `laid`."""
        places = laid[:, :, self.front_size :]
        if self.front_size:
            once_more = self.front(places)
            once_more.add_(laid[:, :, : self.front_size].reshape(once_more.shape))
        return places[:, :, self.before : self.before + length]


def neighbourhood(
    left_out: Bool[Tensor, "#batch places"],
    *,
    front_size: int,
    blocks: int,
    rows: int,
    reach: int,
    is_causal: bool,
    step: int = 1,
    residue: int = 0,
) -> Part:
    """Blocks of queries, each with the keys at most `reach` tokens away and with those in front.

    Keys are laid out as: those in front, an empty block, all tokens, an empty block.

    Args:
        left_out: True = blocked, for every query; by the keys' places.
        front_size: How many keys stand in front.
        blocks: Number of blocks.
        rows: Queries of a block, at least `reach`.
        reach: Distance of the farthest key.
        is_causal: Blocks the future, but not in front.
        step: Distance of neighbours, in tokens.
        residue: Which of the `step` sequences of neighbours.
    """
    view = partial(in_blocks, blocks=blocks, rows=rows, step=step, residue=residue)
    sides = (0, 1) if is_causal else (0, 1, 2)
    keys: list[View] = [partial(shared, first=0, count=front_size, blocks=blocks)] if front_size else []
    keys += [partial(view, first=front_size + side * rows * step) for side in sides]
    query = torch.arange(rows, device=left_out.device)[:, None] + rows
    key = torch.arange(len(sides) * rows, device=left_out.device)
    band = (key - query).abs() > reach
    if is_causal:
        band = band | (key > query)
    places = left_out[:, None, :, None]
    return Part(
        queries=partial(view, first=0),
        keys=keys,
        band=F.pad(band, (front_size, 0)),
        blocked=torch.cat([one(places)[:, :, 0, :, 0] for one in keys], dim=2),
    )


def attend_in_blocks(
    q: HeadQueries, k: HeadQueries, v: HeadQueries, parts: Sequence[Part], layout: Layout, tail: int
) -> HeadQueries:
    """Softmax attention of each query over the keys that the parts give it; zeros for a query without keys.

    Args:
        q: Queries.
        k: Keys, one a query.
        v: Values, one a key.
        parts: The pattern; every query is in some part.
        layout: Where the parts find keys and values.
        tail: How many empty queries the parts have behind the others.
    """
    if q.device.type == "cpu" and not torch.compiler.is_compiling():
        return _Fused.apply(parts, layout, tail, q, k, v)
    mixed = _attend_plainly(Layout(0, tail)(q), layout(k), layout(v), parts)
    return mixed[:, :, : q.shape[2]]


def _attend_plainly(q: HeadQueries, k: HeadKeys, v: HeadKeys, parts: Sequence[Part]) -> HeadQueries:
    """The definition, in operations that can be traced for any length: sums of exponentials, in float32."""
    mixed = torch.zeros_like(q, dtype=torch.promote_types(q.dtype, torch.float32))
    total, highest = torch.zeros_like(mixed[..., :1]), torch.full_like(mixed[..., :1], LOWEST)
    for part in parts:
        keys, values = (torch.cat([view(x) for view in part.keys], dim=-2).to(mixed.dtype) for x in (k, v))
        blocked = part.band | part.blocked[:, :, None, None, :]
        scores = part.queries(q).to(mixed.dtype) * q.shape[-1] ** -0.5 @ keys.mT
        scores = scores.masked_fill(blocked, LOWEST)
        before = part.queries(highest) if part.extends else torch.full_like(part.queries(highest), LOWEST)
        now = torch.maximum(before, scores.detach().amax(-1, keepdim=True))
        weights = (scores - now).exp().masked_fill(blocked, 0.0)
        fade = (before - now).exp()  # of the sums that were taken relative to the highest score before
        for sums, share in ((mixed, weights @ values), (total, weights.sum(-1, keepdim=True))):
            part.queries(sums).copy_(part.queries(sums) * fade + share if part.extends else share)
        part.queries(highest).copy_(now)
    return (mixed / total.clamp(min=torch.finfo(mixed.dtype).tiny)).to(q.dtype)


class _Fused(torch.autograd.Function):
    """The same by torch's fused CPU kernel, a few blocks at a time.

    The kernel gives, beside its output, the logarithm of the sum of the exponentials. Two parts of one query join by
    it, and the kernel's backward pass, given the *joint* output and sum, gives each part's share of the gradients: what
    ring attention (Liu et al. 2023) does between devices, here between blocks. No score is kept.
    """

    @staticmethod
    def forward(ctx: Any, parts: Sequence[Part], layout: Layout, tail: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        batch, _, length, _ = q.shape
        # Where gradients are wanted, queries of their own too: a view would keep the projection of all three.
        q = Layout(0, tail)(q) if tail or any(ctx.needs_input_grad) else q
        k, v = layout(k), layout(v)
        # Empty places between sequences are left out: the next projection would keep a copy without them.
        closes_gaps = tail > 0 and batch > 1
        mixed = _like_tokens(q, length if closes_gaps else q.shape[2])
        sums = torch.empty(*q.shape[:3], 1, dtype=torch.promote_types(q.dtype, torch.float32))
        bands = _bands(parts, sums.dtype)
        for sequence in range(batch):
            query, key, value, sum_, laid = _of(sequence, q, k, v, sums, mixed)
            if closes_gaps:
                laid = _like_tokens(query, q.shape[2])
            for part, band in zip(parts, bands, strict=True):
                for rows, keys, bias in _chunks(part, band, sequence, q.shape[1]):
                    out, more = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                        rows(query), keys(key), keys(value), attn_mask=bias
                    )
                    more = more.unsqueeze(-1)
                    if part.extends:
                        joint = torch.logaddexp(rows(sum_), more)
                        out = rows(laid) * (rows(sum_) - joint).exp() + out * (more - joint).exp()
                        more = joint
                    rows(laid).copy_(out)
                    rows(sum_).copy_(more)
            if closes_gaps:
                mixed[sequence] = laid[0, :, :length]
        lost = sums < LOWEST / 2
        ctx.lost = lost if bool(lost.any()) else None
        if ctx.lost is not None:
            mixed.masked_fill_(lost[:, :, : mixed.shape[2]], 0.0)
        ctx.parts, ctx.layout, ctx.tail = parts, layout, tail
        ctx.save_for_backward(q, k, v, mixed, sums)
        return mixed[:, :, :length] if mixed.shape[2] > length else mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, mixed, sums = ctx.saved_tensors
        length = grad.shape[2]
        dq, dk, dv = (_like_tokens(x, x.shape[2]) for x in (q, k, v))
        dk.zero_()
        dv.zero_()
        bands = _bands(ctx.parts, sums.dtype)
        for sequence in range(len(q)):
            query, key, value, sum_, out, dout = _of(sequence, q, k, v, sums, mixed, grad)
            dquery, dkey, dvalue = _of(sequence, dq, dk, dv)
            # Laid out a sequence at a time: never is there a copy of all.
            out, dout = (x if x.shape[2] == q.shape[2] else Layout(0, ctx.tail)(x) for x in (out, dout))
            if ctx.lost is not None:
                dout = dout.masked_fill(ctx.lost[sequence : sequence + 1], 0.0)
            for number, (part, band) in enumerate(zip(ctx.parts, bands, strict=True)):
                valid = sum_.clone()
                for later in ctx.parts[number + 1 :]:
                    if later.replaces:
                        later.queries(valid).fill_(-LOWEST)  # the weights of these queries then vanish
                for rows, keys, bias in _chunks(part, band, sequence, q.shape[1]):
                    gradients = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                        rows(dout),
                        rows(query),
                        keys(key),
                        keys(value),
                        rows(out),
                        rows(valid).squeeze(-1).contiguous(),
                        0.0,
                        False,
                        attn_mask=bias,
                    )
                    if part.extends or part.replaces:
                        rows(dquery).add_(gradients[0])
                    else:
                        rows(dquery).copy_(gradients[0])
                    keys.add(dkey, gradients[1])
                    keys.add(dvalue, gradients[2])
        taken = (ctx.layout.take_back(x, length) for x in (dk, dv))
        return None, None, None, dq[:, :, :length], *taken


def _of(sequence: int, *batches: Tensor) -> list[Tensor]:
    """One sequence of each batch, as a batch of one: a view."""
    return [x[sequence : sequence + 1] for x in batches]


def _like_tokens(x: Tensor, length: int) -> Tensor:
    """Empty, of the shape (batch, heads, length, head_dim), but with a token's heads side by side in memory.

    Where projections read and write heads, nothing has then to be copied.
    """
    batch, heads, _, head_dim = x.shape
    return x.new_empty(batch, length, heads, head_dim).transpose(1, 2)


@dataclass(frozen=True)
class _Rows:
    """Some blocks of queries of a batch of one sequence."""

    part: Part
    blocks: slice

    def __call__(self, x: Tensor) -> Tensor:
        return self.part.queries(x)[0, self.blocks]


@dataclass(frozen=True)
class _Keys:
    """The keys of some blocks of a batch of one sequence."""

    part: Part
    blocks: slice

    def views(self, x: Tensor) -> list[Tensor]:
        return [view(x)[0, self.blocks] for view in self.part.keys]

    def __call__(self, x: Tensor) -> Tensor:
        views = self.views(x)
        return views[0] if len(views) == 1 else torch.cat(views, dim=-2)

    def add(self, total: Tensor, gradient: Tensor) -> None:
        """Adds gradients to where their keys have come from; a key that all blocks share gets the sum."""
        views = self.views(total)
        for view, share in zip(views, gradient.split([view.shape[-2] for view in views], dim=-2), strict=True):
            if view.stride(0) == 0:
                view[0].add_(share.sum(0))
            else:
                view.add_(share)


def _bands(parts: Sequence[Part], dtype: torch.dtype) -> list[Tensor]:
    """Of each part, what its band adds to the scores of every block."""
    return [torch.zeros(part.band.shape, dtype=dtype).masked_fill(part.band, LOWEST) for part in parts]


def _chunks(part: Part, band: Tensor, sequence: int, heads: int) -> Iterator[tuple[_Rows, _Keys, Tensor]]:
    """A few blocks of one sequence at a time, with what is added to their scores."""
    batch, blocks = part.blocked.shape[:2]
    blocked = part.blocked[sequence if batch > 1 else 0]
    some = blocked.any(-1)
    size = max(1, CHUNK_ROWS // (heads * len(band)))
    for first in range(0, blocks, size):
        chunk = slice(first, first + size)
        bias = band[None, None]
        if some[chunk].any():
            bias = bias.masked_fill(blocked[chunk, None, None, :], LOWEST)
        yield _Rows(part, chunk), _Keys(part, chunk), bias

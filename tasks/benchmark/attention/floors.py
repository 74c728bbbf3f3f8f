"""The matrix products that a layer cannot avoid: its projections, and its attention's products pair by pair.

A pair is a query and a key that it sees; each costs one row-by-column product for the score and one for the value. The
pairs of a pattern are counted exactly and then laid out in square tiles, the shape in which a bare product is fastest:
no implementation of the pattern can compute fewer, or compute them faster.
"""

import math
from collections.abc import Callable

import torch

from tasks.benchmark.attention.plan import Shape
from tasks.benchmark.measure import Product

TILE = 256
"""Side of a tile; of those from 64 to 4,096 keys wide one of the fastest on one thread and the fastest on two, and it
needs little memory at any length."""


def dense_pairs(shape: Shape) -> int:
    """Every query and every key, or every key up to the query's own.

    >>> dense_pairs(Shape(4, True, 8, 2, window=2, global_tokens=1))
    10
    """
    return shape.length * (shape.length + 1) // 2 if shape.causal else shape.length**2


def longformer_pairs(shape: Shape) -> int:
    """The window's pairs, and those of global tokens that lie outside of it.

    >>> longformer_pairs(Shape(5, False, 8, 2, window=2, global_tokens=0))
    13
    >>> longformer_pairs(Shape(5, False, 8, 2, window=2, global_tokens=1))
    19
    """
    position = torch.arange(shape.length)
    half, tokens = shape.window // 2, min(shape.global_tokens, shape.length)
    last = position if shape.causal else (position + half).clamp(max=shape.length - 1)
    first = (position - half).clamp(min=0)
    seen = last - first + 1 + first.clamp(max=tokens)  # the window, and the global tokens before it
    seen[:tokens] = position[:tokens] + 1 if shape.causal else shape.length
    return int(seen.sum())


def sparse_pairs(shape: Shape) -> int:
    """Those fewer than a stride apart, and those a multiple of it apart (Child et al. 2019, section 4.3).

    >>> sparse_pairs(Shape(4, True, 8, 2, window=2, global_tokens=0))  # stride 2: 1 + 2 + 3 + 3
    9
    """
    stride = stride_of(shape.length)
    distance = torch.arange(shape.length)
    pairs = shape.length - distance[(distance < stride) | (distance % stride == 0)]  # so many pairs at each distance
    return int(pairs.sum() if shape.causal else 2 * pairs.sum() - shape.length)


def stride_of(length: int) -> int:
    """The stride at which the strided pattern has the fewest pairs (Child et al. 2019, section 4.3).

    >>> stride_of(1024)
    32
    """
    return max(1, round(math.sqrt(length)))


def attention_products(pairs: int, shape: Shape) -> tuple[Product, ...]:
    """Scores and values of so many pairs in each head, in tiles; the rest in one that is smaller."""
    head_dim = shape.width // shape.heads
    tiles, rest = divmod(pairs, TILE**2)
    columns, last = divmod(rest, TILE)
    return tuple(
        product
        for rows, columns, repeat in ((TILE, TILE, tiles), (TILE, columns, 1), (1, last, 1))
        if columns and repeat
        for product in (
            Product(rows, head_dim, columns, batch=shape.heads, repeat=repeat),
            Product(rows, columns, head_dim, batch=shape.heads, repeat=repeat),
        )
    )


def linear_products(shape: Shape) -> tuple[Product, ...]:
    """`phi(K)^T V` and `phi(Q)` times it; causal, the running sums of it cost as many multiplications."""
    head_dim = shape.width // shape.heads
    return (
        Product(head_dim, shape.length, head_dim, batch=shape.heads),
        Product(shape.length, head_dim, head_dim, batch=shape.heads),
    )


def projections(shape: Shape) -> tuple[Product, ...]:
    """To queries, keys and values, and out of the heads."""
    return (
        Product(shape.length, shape.width, 3 * shape.width),
        Product(shape.length, shape.width, shape.width),
    )


FLOORS: dict[str, Callable[[Shape], tuple[Product, ...]]] = {
    "full": lambda shape: (*projections(shape), *attention_products(dense_pairs(shape), shape)),
    "sparse": lambda shape: (*projections(shape), *attention_products(sparse_pairs(shape), shape)),
    "linear": lambda shape: (*projections(shape), *linear_products(shape)),
    "longformer": lambda shape: (*projections(shape), *attention_products(longformer_pairs(shape), shape)),
}

"""What is measured of the core itself: GPT's train step, packed against padded sequences, cached decoding."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from core.masks import padding_mask
from tasks.benchmark.attention.floors import attention_products as window_products
from tasks.benchmark.attention.floors import longformer_pairs
from tasks.benchmark.attention.plan import Shape
from tasks.benchmark.measure import Batch, Case, Product
from tasks.benchmark.speed.language import BERT, GPT, Greedy, Longformer, Sizes
from tasks.benchmark.speed.language_peers import PlainGPT, PublishedBERT, PublishedGPT2, PublishedLongformerModel


def decoder_products(rows: int, width: int, layers: int, vocab_size: int = 0, repeat: int = 1) -> tuple[Product, ...]:
    """The products of layers and head on `rows` tokens, without those of attention."""
    head = (Product(rows, width, vocab_size, repeat=repeat),) if vocab_size else ()
    return (
        Product(rows, width, 3 * width, repeat=repeat * layers),
        Product(rows, width, width, repeat=repeat * layers),
        Product(rows, width, 4 * width, repeat=repeat * layers),
        Product(rows, 4 * width, width, repeat=repeat * layers),
        *head,
    )


def attention_products(
    sequences: int, length: int, keys: int, width: int, heads: int, repeat: int
) -> tuple[Product, ...]:
    """Scores, and weights by values."""
    return (
        Product(length, width // heads, keys, batch=sequences * heads, repeat=repeat),
        Product(length, keys, width // heads, batch=sequences * heads, repeat=repeat),
    )


def _tokens(batch: int, length: int, vocab_size: int) -> Batch:
    tokens = torch.randint(vocab_size, (batch, length), generator=torch.Generator().manual_seed(0))
    return (tokens,), tokens.flatten()


def gpt_case(
    name: str, peer: str, *, batch: int, length: int, width: int, layers: int, heads: int, vocab_size: int, listed: bool
) -> Case:
    """GPT's train step; the peer is transformers' GPT-2, or the same by hand with the exact GELU, as nanoGPT has it."""
    sizes = Sizes(vocab_size, length, width, layers, heads)
    by_hand = peer == "by hand"
    products = decoder_products(batch * length, width, layers, vocab_size)
    products += attention_products(batch, length, length, width, heads, layers)
    return Case(
        name=name,
        title=f"GPT, width {width}, {layers} layers, {heads} heads, {length} tokens, vocabulary {vocab_size}, "
        f"batch {batch}",
        peer_name=peer,
        ours=partial(GPT, sizes, approximate="none" if by_hand else "tanh"),
        peer=partial(PlainGPT if by_hand else PublishedGPT2, sizes),
        batch=partial(_tokens, batch, length, vocab_size),
        products=products,
        listed=listed,
        modes=("train",),
    )


def _unequal(lengths: tuple[int, ...], vocab_size: int, width: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    padding = padding_mask(torch.tensor(lengths))
    tokens = torch.randint(vocab_size, padding.shape, generator=generator)
    return (tokens, padding), torch.randn(sum(lengths), width, generator=generator)


def packed_case(
    name: str,
    peer: str,
    *,
    sequences: int,
    shortest: int,
    longest: int,
    width: int,
    layers: int,
    heads: int,
    listed: bool,
) -> Case:
    """Packed sequences, their lengths evenly spaced; the peer is transformers' BERT, or ours on the padded batch."""
    step = (longest - shortest) / (sequences - 1)
    lengths = tuple(round(shortest + step * number) for number in range(sequences))
    padded = decoder_products(sequences * longest, width, layers)
    padded += attention_products(sequences, longest, longest, width, heads, layers)
    vocab_size = 1024
    sizes = Sizes(vocab_size, longest, width, layers, heads)
    products = decoder_products(sum(lengths), width, layers)
    for length in lengths:
        products += attention_products(1, length, length, width, heads, layers)
    return Case(
        name=name,
        title=f"BERT's encoder, width {width}, {layers} layers, {heads} heads, {sequences} sequences of {shortest} to "
        f"{longest} tokens, vocabulary {vocab_size}",
        peer_name=peer,
        ours=partial(BERT, sizes, packed=True),
        peer=partial(BERT, sizes, packed=False) if peer == "ours, padded" else partial(PublishedBERT, sizes),
        batch=partial(_unequal, lengths, vocab_size, width),
        products=products,
        listed=listed,
        loss=F.mse_loss,
        peer_products=padded,
        modes=("train",),
    )


def _documents(length: int, vocab_size: int, width: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(2, vocab_size, (1, length), generator=generator)  # 1 is transformers' padding
    return (tokens,), torch.randn(length, width, generator=generator)


def longformer_case(name: str, *, length: int, window: int, width: int, layers: int, heads: int, listed: bool) -> Case:
    """Longformer's encoder, the same function on both sides; the floor is the products of the window's pairs."""
    vocab_size = 1024
    sizes = Sizes(vocab_size, length, width, layers, heads)
    shape = Shape(length, False, width, heads, window, 0)
    pairs = window_products(longformer_pairs(shape), shape)
    return Case(
        name=name,
        title=f"Longformer's encoder, width {width}, {layers} layers, {heads} heads, window {window}, {length} tokens",
        peer_name="transformers",
        ours=partial(Longformer, sizes, window=window),
        peer=partial(PublishedLongformerModel, sizes, window=window),
        batch=partial(_documents, length, vocab_size, width),
        products=decoder_products(length, width, layers) + pairs * layers,
        listed=listed,
        loss=F.mse_loss,
    )


def _greedy(sizes: Sizes, count: int) -> nn.Module:
    return Greedy(GPT(sizes), count)


def decoding_case(
    name: str,
    *,
    batch: int,
    prompt: int,
    count: int,
    width: int,
    layers: int,
    heads: int,
    vocab_size: int,
    listed: bool,
) -> Case:
    """Greedy decoding with a cache, beside transformers' `generate`."""
    sizes = Sizes(vocab_size, prompt + count, width, layers, heads)
    products = decoder_products(batch * prompt, width, layers)
    products += attention_products(batch, prompt, prompt, width, heads, layers)
    products += decoder_products(batch, width, layers, repeat=count - 1)
    for step in range(1, count):
        products += attention_products(batch, 1, prompt + step, width, heads, layers)
    products += (Product(batch, width, vocab_size, repeat=count),)
    return Case(
        name=name,
        title=f"GPT, width {width}, {layers} layers, {heads} heads, vocabulary {vocab_size}: {count} tokens after a "
        f"prompt of {prompt}, batch {batch}",
        peer_name="transformers",
        ours=partial(_greedy, sizes, count),
        peer=partial(PublishedGPT2, sizes, count=count),
        batch=partial(_tokens, batch, prompt, vocab_size),
        products=products,
        listed=listed,
        modes=("inference",),
    )


_GPT = {"batch": 8, "length": 256, "width": 384, "layers": 6, "heads": 6, "vocab_size": 65, "listed": True}
_PACKED = {"sequences": 16, "shortest": 16, "longest": 128, "width": 256, "layers": 4, "heads": 4, "listed": True}
_DECODING = {
    "prompt": 8,
    "count": 256,
    "width": 384,
    "layers": 6,
    "heads": 6,
    "vocab_size": 50_257,
    "listed": True,
}
_TINY = {"width": 8, "layers": 1, "heads": 2, "listed": False}  # for the tests: too small to say anything about speed

CORE_CASES: tuple[Case, ...] = (
    gpt_case("gpt", "transformers", **_GPT),
    gpt_case("gpt_by_hand", "by hand", **_GPT),
    packed_case("packed", "ours, padded", **_PACKED),
    packed_case("packed_bert", "transformers", **_PACKED),
    decoding_case("decoding1", batch=1, **_DECODING),
    decoding_case("decoding8", batch=8, **_DECODING),
    longformer_case("longformer", length=4096, window=512, width=256, layers=2, heads=4, listed=True),
    gpt_case("test_gpt", "transformers", batch=2, length=6, vocab_size=11, **_TINY),
    gpt_case("test_by_hand", "by hand", batch=2, length=6, vocab_size=11, **_TINY),
    packed_case("test_packed", "transformers", sequences=3, shortest=2, longest=6, **_TINY),
    longformer_case("test_longformer", length=32, window=8, **_TINY),
    decoding_case("test_decoding", batch=2, prompt=3, count=4, vocab_size=11, **_TINY),
)

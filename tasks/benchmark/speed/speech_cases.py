"""What is measured of speech recognition: a step beside torchaudio's Conformer, an epoch beside padded batches."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import nn

from datamodules.speech.batching import LengthSampler
from tasks.benchmark.measure import Batch, Case, Product
from tasks.benchmark.speed.core_cases import attention_products
from tasks.benchmark.speed.speech import (
    MOST_TOKENS,
    NUM_SPECIAL,
    SAMPLE_RATE,
    Epoch,
    Recogniser,
    Sizes,
    WhisperRecogniser,
    collate,
)
from tasks.benchmark.speed.speech_peers import KERNEL_SIZE, PaddedRecogniser, PublishedConformer, PublishedWhisper

LETTERS = 14.0
"""Text pieces a second: letters of fluent speech."""
TOKENS = 4.0
"""Text pieces a second of Whisper's, which are syllables and words."""
BATCH_SECONDS = 120.0
"""The most audio in a batch of an epoch, the data modules' own default."""


def front_products(batch: int, samples: int, width: int) -> tuple[Product, ...]:
    """Mel bands and subsampling of padded audio; frames of 10 ms, then of 20 and of 40."""
    frames, half, quarter = stages(samples)
    return (
        Product(batch * frames, 257, 80, input_grad=False, weight_grad=False),
        Product(batch * half, 5 * 80, width, input_grad=False),
        Product(batch * quarter, 5 * width, width),
    )


def stages(samples: int) -> tuple[int, int, int]:
    """Frames of an utterance before, between and after the stages of subsampling.

    >>> stages(1601)
    (11, 6, 3)
    """
    frames = -(-samples // 160)
    return frames, -(-frames // 2), -(-frames // 4)


def recogniser_products(samples: Sequence[int], sizes: Sizes, *, padded: bool) -> tuple[Product, ...]:
    """The matrix products of our recogniser on a batch of utterances of so many samples.

    Args:
        samples: Of each utterance.
        sizes: The model's sizes.
        padded: Whether the encoder computes padding too; features, subsampling and head always do.
    """
    width, layers, batch = sizes.width, sizes.layers, len(samples)
    longest = stages(max(samples))[2]
    lengths = [longest] * batch if padded else [stages(each)[2] for each in samples]
    rows = sum(lengths)
    products = front_products(batch, max(samples), width)
    products += (
        Product(rows, width, 3 * width, repeat=layers),
        Product(rows, width, width, repeat=layers),
        Product(rows, width, sizes.ffn_dim, repeat=layers),
        Product(rows, sizes.ffn_dim, width, repeat=layers),
    )
    for length in lengths:
        products += attention_products(1, length, length, width, sizes.heads, layers)
    return (*products, Product(batch * longest, width, sizes.vocab_size + 1))


def conformer_products(samples: Sequence[int], sizes: Sizes) -> tuple[Product, ...]:
    """Those of torchaudio's Conformer: beside the attention two feed-forward networks and a convolution module."""
    width, layers, batch, longest = sizes.width, sizes.layers, len(samples), stages(max(samples))[2]
    rows = batch * longest
    return (
        *front_products(batch, max(samples), width),
        Product(rows, width, sizes.ffn_dim, repeat=2 * layers),
        Product(rows, sizes.ffn_dim, width, repeat=2 * layers),
        Product(rows, width, 3 * width, repeat=layers),
        *attention_products(batch, longest, longest, width, sizes.heads, layers),
        Product(rows, width, width, repeat=layers),
        Product(rows, width, 2 * width, repeat=layers),
        Product(rows, KERNEL_SIZE, width, repeat=layers),
        Product(rows, width, width, repeat=layers),
        Product(rows, width, sizes.vocab_size + 1),
    )


def recordings(samples: Sequence[int], vocab_size: int, rate: float = LETTERS) -> Batch:
    """Noise of so many samples, and texts of as many tokens as are said in that time, `rate` a second."""
    generator = torch.Generator().manual_seed(0)
    audio = [0.1 * torch.randn(each, generator=generator) for each in samples]
    counts = [max(1, round(rate * each / SAMPLE_RATE)) for each in samples]
    return (audio, [torch.randint(vocab_size, (count,), generator=generator) for count in counts]), None


def padded_recordings(samples: Sequence[int], vocab_size: int, rate: float = LETTERS) -> Batch:
    """The same as one batch."""
    return collate(*recordings(samples, vocab_size, rate)[0]), None


def conformer_case(
    name: str, *, utterances: int, shortest: float, longest: float, listed: bool, **numbers: int
) -> Case:
    """A train step by CTC on utterances of evenly spaced lengths; both have the same audio, features and loss.

    The peer drops attention weights too, with the one probability that it has: so does ours here.
    """
    sizes = Sizes(**numbers, attention_dropout=Sizes.dropout)
    samples = [round(SAMPLE_RATE * each) for each in np.linspace(shortest, longest, utterances)]
    products = recogniser_products(samples, sizes, padded=False)
    return Case(
        name=name,
        title=f"CTC, width {sizes.width}, {sizes.layers} layers, {sizes.heads} heads, ffn {sizes.ffn_dim}, dropout "
        f"{sizes.dropout} everywhere, {utterances} utterances of {shortest:g} to {longest:g} s, from audio on: ours is "
        "a Transformer, packed; the peer is padded and has a convolution module and two feed-forward networks a layer",
        peer_name="torchaudio's Conformer",
        ours=partial(Recogniser, sizes),
        peer=partial(PublishedConformer, sizes),
        batch=partial(padded_recordings, samples, sizes.vocab_size),
        products=products,
        listed=listed,
        loss=None,
        modes=("train",),
        peer_products=conformer_products(samples, sizes),
    )


def whisper_products(samples: Sequence[int], tokens: int, sizes: Sizes, *, padded: bool) -> tuple[Product, ...]:
    """The matrix products of a Whisper on utterances of so many samples and texts of so many tokens at most.

    Args:
        samples: Of each utterance.
        tokens: Of the longest text, with prompt and end.
        sizes: The model's sizes.
        padded: Whether utterances are 30 s and texts 448 tokens, all computed; else the encoder computes what is there.
    """
    width, layers, batch, ffn = sizes.width, sizes.layers, len(samples), sizes.ffn_dim
    most = 30 * SAMPLE_RATE
    frames, lengths, _ = zip(*(stages(most if padded else each) for each in samples), strict=True)
    mels = min(max(frames) * 160 + 400, most) // 160 + 1
    memory, texts = batch * max(lengths), batch * (MOST_TOKENS if padded else tokens)
    products = [
        Product(batch * mels, 201, 80, input_grad=False, weight_grad=False),
        Product(batch * max(frames), 3 * 80, width, input_grad=False),
        Product(memory, 3 * width, width),
        Product(sum(lengths), width, width, repeat=4 * layers),
        Product(sum(lengths), width, ffn, repeat=2 * layers),
        # The decoder: its own query, key, value and output, then query and output at the memory, key and value of it.
        Product(texts, width, width, repeat=6 * layers),
        Product(memory, width, width, repeat=2 * layers),
        Product(texts, width, ffn, repeat=2 * layers),
        Product(texts, width, sizes.vocab_size + NUM_SPECIAL),
    ]
    for length in lengths:
        products += attention_products(1, length, length, width, sizes.heads, layers)
    for keys in (texts // batch, max(lengths)):
        products += attention_products(batch, texts // batch, keys, width, sizes.heads, layers)
    return tuple(products)


def whisper_case(name: str, *, utterances: int, shortest: float, longest: float, listed: bool, **numbers: int) -> Case:
    """A train step of Whisper on utterances of evenly spaced lengths, beside transformers' on its windows of 30 s."""
    sizes = Sizes(**numbers, dropout=0.0)
    samples = [round(SAMPLE_RATE * each) for each in np.linspace(shortest, longest, utterances)]
    tokens = max(1, round(TOKENS * max(samples) / SAMPLE_RATE)) + 2
    products = whisper_products(samples, tokens, sizes, padded=False)
    return Case(
        name=name,
        title=f"Whisper, width {sizes.width}, {sizes.layers}+{sizes.layers} layers, {sizes.heads} heads, {utterances} "
        f"utterances of {shortest:g} to {longest:g} s, {TOKENS:g} tokens a second, from audio on: ours computes what "
        f"is there, the peer, as published, windows of 30 s and texts of {MOST_TOKENS} tokens",
        peer_name="transformers",
        ours=partial(WhisperRecogniser, sizes),
        peer=partial(PublishedWhisper, sizes),
        batch=partial(padded_recordings, samples, sizes.vocab_size, TOKENS),
        products=products,
        listed=listed,
        loss=None,
        modes=("train",),
        peer_products=whisper_products(samples, tokens, sizes, padded=True),
    )


def log_normal(count: int) -> list[float]:
    """Seconds of utterances as in conversation, `exp(ln 3 + 0.8 z)`: half are under 3 s, and a few are long."""
    drawn = torch.randn(count, generator=torch.Generator().manual_seed(0))
    return (math.log(3.0) + 0.8 * drawn).exp().clamp(0.3, 15.0).tolist()


def uniform(count: int) -> list[float]:
    """Seconds of utterances, every length from 0.3 to 15 s as frequent as any other."""
    return (0.3 + 14.7 * torch.rand(count, generator=torch.Generator().manual_seed(0))).tolist()


def bucketed(samples: Sequence[int]) -> list[list[int]]:
    """An epoch's batches as our data modules make them: utterances of about one length."""
    lengths = np.array(samples)
    sampler = LengthSampler(len(lengths), lambda _: lengths, limit=round(BATCH_SECONDS * SAMPLE_RATE), seed=0)
    return [[index for index, _ in batch] for batch in sampler]


def shuffled(count: int, size: int) -> list[list[int]]:
    """An epoch's batches without a look at the lengths: so many random utterances in each."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return [part.tolist() for part in order.split(size)]


def _epoch(network: Callable[[Sizes], nn.Module], sizes: Sizes, batches: Sequence[Sequence[int]]) -> nn.Module:
    return Epoch(network(sizes), batches)


def epoch_case(
    name: str, lengths: Callable[[int], list[float]], *, utterances: int, size: int, listed: bool, **numbers: int
) -> Case:
    """A training epoch on lengths as they come: buckets and packing beside random batches of `size`, padded.

    16 of them are fewer than our batches hold in a long epoch, 27 of 2,048 `log_normal` utterances, and so have less
    padding than as many batches as ours; of few utterances ours hold fewer, as those of one length are soon used up.
    """
    sizes = Sizes(**numbers)
    samples = [round(SAMPLE_RATE * each) for each in lengths(utterances)]
    ours = bucketed(samples)
    peer = shuffled(utterances, size)
    products, peer_products = (
        tuple(
            product
            for batch in batches
            for product in recogniser_products([samples[number] for number in batch], sizes, padded=padded)
        )
        for batches, padded in ((ours, False), (peer, True))
    )
    padding = (max(samples[number] for number in batch) * len(batch) for batch in peer)
    return Case(
        name=name,
        title=f"an epoch by CTC, width {sizes.width}, {sizes.layers} layers, {sizes.heads} heads, ffn {sizes.ffn_dim}, "
        f"{utterances} utterances of 0.3 to 15 s ({lengths.__name__}), {sum(samples) / SAMPLE_RATE:.0f} s of audio, "
        f"one step of the optimiser: ours in {len(ours)} batches bucketed by length, packed; the peer is the same "
        f"network on {len(peer)} random batches, padded to {sum(padding) / SAMPLE_RATE:.0f} s",
        peer_name="ours, random batches padded",
        ours=partial(_epoch, Recogniser, sizes, ours),
        peer=partial(_epoch, PaddedRecogniser, sizes, peer),
        batch=partial(recordings, samples, sizes.vocab_size),
        products=products,
        listed=listed,
        loss=None,
        modes=("train",),
        peer_products=peer_products,
    )


_SIZES = {"vocab_size": 30, "width": 256, "heads": 4, "layers": 6, "ffn_dim": 1024, "listed": True}
_WHISPER = {"vocab_size": 50_256, "width": 384, "heads": 6, "layers": 4, "ffn_dim": 1536, "listed": True}
_TINY = {"vocab_size": 5, "width": 16, "heads": 2, "layers": 2, "ffn_dim": 24, "listed": False}  # for the tests

SPEECH_CASES: tuple[Case, ...] = (
    conformer_case("conformer", utterances=8, shortest=1.0, longest=10.0, **_SIZES),
    epoch_case("epoch", log_normal, utterances=128, size=16, **_SIZES),
    epoch_case("epoch_uniform", uniform, utterances=64, size=16, **_SIZES),
    whisper_case("whisper", utterances=8, shortest=1.0, longest=10.0, **_WHISPER),
    conformer_case("test_conformer", utterances=3, shortest=0.3, longest=1.0, **_TINY),
    whisper_case("test_whisper", utterances=2, shortest=0.5, longest=1.0, **_TINY),
    epoch_case("test_epoch", log_normal, utterances=6, size=3, **_TINY),
)

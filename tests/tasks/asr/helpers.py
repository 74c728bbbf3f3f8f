"""A small recogniser of each kind, and utterances of tones of unequal lengths."""

from collections.abc import Callable

import torch
from torch import Tensor

from core import Attention, Decoder, Encoder, FullAttention
from tasks.asr.features import LogMel
from tasks.asr.model import ASR

WIDTH, RATE = 16, 8000
VOCABULARY = ["a", "b", "c", " "]
LENGTHS = [4001, 1300, 0, 79, 2400]
"""Samples: 13, 5, 0, 1 and 8 frames of 40 ms."""


def asr(
    weight: float = 0.5,
    *,
    attention: Callable[[], Attention] = FullAttention,
    target_attention: Callable[[], Attention] = FullAttention,
    dropout: float = 0.0,
    **arguments,
) -> ASR:
    """Random weights; CTC with `weight` 0, the decoder alone with 1."""
    torch.manual_seed(0)
    return ASR(
        Encoder(WIDTH, 2, 2, 32, attention=attention, dropout=dropout),
        Decoder(WIDTH, 2, 2, 32, attention=target_attention, dropout=dropout),
        **{
            "vocab_size": len(VOCABULARY),
            "sample_rate": RATE,
            "features": lambda rate: LogMel(rate, num_mels=20),
            "attention_weight": weight,
        }
        | arguments,
    )


def speech(*lengths: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Tones that change within each utterance, with noise, zeros in padding; and the lengths."""
    generator = torch.Generator().manual_seed(seed)
    audio = torch.zeros(len(lengths), max(lengths, default=0))
    for number, length in enumerate(lengths):
        pitches = 200 + 2000 * torch.rand(length // 800 + 1, generator=generator)
        phases = (pitches.repeat_interleave(800)[:length] / RATE * 6.2832).cumsum(0)
        audio[number, :length] = 0.3 * phases.sin() + 0.05 * torch.randn(length, generator=generator)
    return audio, torch.tensor(lengths)

"""Speech recognition by CTC as `tasks.asr` trains it, a batch or an epoch: what `speed --task asr` measures."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from core import Decoder, Encoder, FullAttention, LearnedPositionalEncoding
from tasks.asr.features import Audio, Lengths
from tasks.asr.losses import ctc_loss, shift, token_loss
from tasks.asr.model import ASR
from tasks.asr.subsampling import ConvSubsampling
from tasks.asr.tokens import TokenEmbedding
from tasks.asr.whisper import WhisperLogMel

SAMPLE_RATE = 16_000
NUM_SPECIAL = 1608
"""Of Whisper: the end of a text, its start, languages, tasks, times."""
MOST_TOKENS = 448
"""Of a text in Whisper, and of the decoder's positions."""
Tokens = Int[Tensor, "batch most"]
LogProbs = Float[Tensor, "batch frames outputs"]


@dataclass(frozen=True)
class Sizes:
    """A recogniser's sizes, the same for ours and for its peer.

    Attributes:
        vocab_size: Number of text pieces.
        width: Width of a frame.
        heads: Heads of each layer.
        layers: Number of layers.
        ffn_dim: Width inside the feed-forward networks.
        dropout: Probability with which an element of a branch, and an activation in a feed-forward network, is dropped.
        attention_dropout: Probability with which an attention weight is dropped.
    """

    vocab_size: int
    width: int
    heads: int
    layers: int
    ffn_dim: int
    dropout: float = 0.1
    attention_dropout: float = 0.0


def make_asr(sizes: Sizes) -> ASR:
    """The recogniser of `tasks.asr`: 80 log-mel bands, a quarter of the frames, encoder, CTC head."""
    encoder = Encoder(
        sizes.width,
        sizes.heads,
        sizes.layers,
        sizes.ffn_dim,
        dropout=sizes.dropout,
        attention=partial(FullAttention, dropout=sizes.attention_dropout),
    )
    return ASR(encoder, vocab_size=sizes.vocab_size, sample_rate=SAMPLE_RATE, attention_weight=0.0)


def answer(log_probs: LogProbs, frames: Lengths, tokens: Tokens, token_lengths: Lengths, *, training: bool) -> Tensor:
    """The loss in training, else the logarithms of the probabilities; the same for all contenders."""
    if not training:
        return log_probs
    return ctc_loss(log_probs, frames, tokens, token_lengths, torch.ones_like(frames, dtype=torch.bool)).value


class Recogniser(nn.Module):
    """Ours: padding is left out of the encoder.

    Args:
        sizes: The model's sizes.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.asr = make_asr(sizes)

    def forward(self, audio: Audio, audio_lengths: Lengths, tokens: Tokens, token_lengths: Lengths) -> Tensor:
        """As `answer` has it."""
        log_probs, frames = self.asr(audio, audio_lengths)
        return answer(log_probs, frames, tokens, token_lengths, training=self.training)


class WhisperRecogniser(nn.Module):
    """Whisper as `configs/asr/whisper_tiny.yaml` fine-tunes it: nothing is computed for the rest of the 30 s.

    Args:
        sizes: The model's sizes; `layers` of the encoder, and as many of the decoder.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        stack = (sizes.width, sizes.heads, sizes.layers, sizes.ffn_dim)
        self.asr = ASR(
            Encoder(*stack, dropout=sizes.dropout),
            Decoder(*stack, dropout=sizes.dropout),
            vocab_size=sizes.vocab_size,
            sample_rate=SAMPLE_RATE,
            features=partial(WhisperLogMel, padded=False),
            subsampling=partial(ConvSubsampling, strides=(1, 2), kernel_size=3),
            position=partial(LearnedPositionalEncoding, num_positions=1500),
            tokens=partial(
                TokenEmbedding,
                num_special=NUM_SPECIAL,
                prompt=[sizes.vocab_size + 1, sizes.vocab_size + 2],
                scaled=False,
                position=partial(LearnedPositionalEncoding, num_positions=MOST_TOKENS),
            ),
            attention_weight=1.0,
        )
        assert self.asr.position is not None
        self.asr.position.requires_grad_(False)

    def forward(self, audio: Audio, audio_lengths: Lengths, tokens: Tokens, token_lengths: Lengths) -> Tensor:
        """The loss in training, else the logits of the tokens given."""
        assert self.asr.tokens is not None
        given, labels = shift(tokens, token_lengths, self.asr.tokens.prompt, self.asr.tokens.end)
        logits = self.asr.token_logits(given, self.asr.encode(audio, audio_lengths))
        if not self.training:
            return logits
        return token_loss(logits, labels, torch.ones_like(audio_lengths, dtype=torch.bool)).value


class Epoch(nn.Module):
    """A recogniser over many utterances, batch by batch.

    In training the gradients of all batches are summed, so that an epoch is one step of the optimiser: each batch is
    freed before the next comes.

    Args:
        network: The recogniser.
        batches: The numbers of each batch's utterances.
    """

    def __init__(self, network: nn.Module, batches: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.network = network
        self.batches = batches

    def forward(self, audio: Sequence[Float[Tensor, " samples"]], tokens: Sequence[Int[Tensor, " length"]]) -> Tensor:
        """The last batch's loss in training, else its answers; padding a batch is part of the work."""
        output = torch.zeros(())
        for number, batch in enumerate(self.batches):
            if number and self.training:
                output.backward()
            output = self.network(*collate([audio[each] for each in batch], [tokens[each] for each in batch]))
        return output


def collate(audio: Sequence[Tensor], tokens: Sequence[Tensor]) -> tuple[Audio, Lengths, Tokens, Lengths]:
    """Pads to the longest: what `Recogniser` takes."""
    padded = [pad_sequence(list(rows), batch_first=True) for rows in (audio, tokens)]
    lengths = [torch.tensor([len(row) for row in rows]) for rows in (audio, tokens)]
    return padded[0], lengths[0], padded[1], lengths[1]

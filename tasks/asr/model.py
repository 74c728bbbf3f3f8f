"""Speech recognition: an encoder read by CTC, and by a decoder that attends to it (Watanabe et al. 2017)."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from core import Decoder, DecoderCache, Encoder, Linear, Packing, SinusoidalPositionalEncoding
from core.masks import padding_mask
from tasks.asr.features import Audio, Features, Lengths, LogMel, MelFeatures, SpecAugment, without_silent
from tasks.asr.pretrained import load_pretrained
from tasks.asr.subsampling import ConvSubsampling
from tasks.asr.tokens import Position, TokenEmbedding


class Encoded(NamedTuple):
    """What the encoder gives.

    Attributes:
        memory: Zeros in padding.
        lengths: Frames of each utterance, after subsampling.
        padding: True = padding; None = there is none.
    """

    memory: Float[Tensor, "batch frames embed_dim"]
    lengths: Int[Tensor, " batch"]
    padding: Bool[Tensor, "batch frames"] | None

    def select(self, rows: Int[Tensor, " rows"]) -> "Encoded":
        """These utterances, in this order; one may come several times."""
        return Encoded(self.memory[rows], self.lengths[rows], None if self.padding is None else self.padding[rows])


class ASR(nn.Module):
    """Recognises speech: features, subsampling, the core's encoder, a CTC head and the core's decoder.

    With V = `vocab_size`, the CTC head has V + 1 outputs, the last being the blank; for the decoder index V ends a text
    and, unless `tokens` has another prompt, starts it. Where utterances differ in length the encoder works on their
    real frames only, packed.

    Args:
        encoder: The core's encoder; its width is the model's.
        decoder: The core's decoder, with encoder-decoder attention and of the same width; not needed for CTC alone.
        vocab_size: Number of text pieces.
        sample_rate: Of the audio, in Hz.
        features: Makes the features from `sample_rate`.
        subsampling: Makes the subsampling from the number of features and the encoder's width.
        attention_weight: Weight of the decoder's loss, that of CTC being the rest; 0 = CTC alone, and any decoder is
            left out; 1 = the decoder alone, without a CTC head.
        position: Makes the positional encoding of frames from the width; None = there is none, as for encoders with
            `rotary`.
        tokens: Makes the decoder's embedding and output head from `vocab_size` and the width.
        spec_augment: Hides parts of the features in training; None = nothing.
        pretrained: A file of weights to start from: Whisper's as published, or those of an earlier run; see
            `tasks.asr.pretrained.load_pretrained`.

    Raises:
        ValueError: If `vocab_size` is less than 1, `attention_weight` is not in [0, 1], or a decoder is asked for that
            is not given, has another width, or has no encoder-decoder attention; if `pretrained` cannot be read, or
            does not fit.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder | None = None,
        *,
        vocab_size: int,
        sample_rate: int,
        features: Callable[[int], MelFeatures] = LogMel,
        subsampling: Callable[[int, int], ConvSubsampling] = ConvSubsampling,
        attention_weight: float = 0.3,
        position: Callable[[int], Position] | None = SinusoidalPositionalEncoding,
        tokens: Callable[[int, int], TokenEmbedding] = TokenEmbedding,
        spec_augment: SpecAugment | None = None,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        width = encoder.embed_dim
        _check(width, decoder, vocab_size, attention_weight)
        self.vocab_size = vocab_size
        self.attention_weight = attention_weight
        self.features = features(sample_rate)
        self.spec_augment = spec_augment
        self.subsampling = subsampling(self.features.num_features, width)
        self.position = None if position is None else position(width)
        self.encoder = encoder
        self.ctc_head = _make_ctc_head(width, vocab_size) if attention_weight < 1 else None
        self.decoder = decoder if attention_weight > 0 else None
        self.tokens = None if self.decoder is None else tokens(vocab_size, width)
        if pretrained is not None:
            load_pretrained(self, pretrained)

    @property
    def frame_seconds(self) -> float:
        """From one of the encoder's frames to the next."""
        return self.features.hop_seconds * self.subsampling.factor

    def forward(
        self, audio: Audio, audio_lengths: Lengths
    ) -> tuple[Float[Tensor, "batch frames outputs"], Int[Tensor, " batch"]]:
        """Gives the logarithms of the CTC head's probabilities, and the frames of each utterance."""
        encoded = self.encode(audio, audio_lengths)
        return self.ctc_log_probs(encoded), encoded.lengths

    def encode(self, audio: Audio, audio_lengths: Lengths) -> Encoded:
        """Encodes utterances; one of digital silence has no frames, as one without samples.

        Args:
            audio: Samples in [-1, 1]; what lies in padding changes nothing.
            audio_lengths: Samples of each utterance.
        """
        x, lengths = self.features(audio, without_silent(audio, audio_lengths))
        if self.spec_augment is not None:
            x = self.spec_augment(x, lengths)
        x, lengths = self.subsampling(x, lengths)
        if self.position is not None:
            x = x + self.position(x.shape[1])
        padding = padding_mask(lengths, x.shape[1])
        if not bool(padding.any()):
            return Encoded(self.encoder(x), lengths, None)
        packing = Packing(padding)
        return Encoded(packing.unpack(self.encoder(packing.pack(x), packing=packing)), lengths, padding)

    def ctc_log_probs(self, encoded: Encoded) -> Float[Tensor, "batch frames outputs"]:
        """The logarithms of the CTC head's probabilities, in float32.

        Raises:
            ValueError: If there is no CTC head.
        """
        if self.ctc_head is None:
            raise ValueError(f"attention_weight={self.attention_weight}: the model has no CTC head")
        return self.ctc_head(encoded.memory).float().log_softmax(-1)

    def token_logits(
        self, tokens: Int[Tensor, "batch length"], encoded: Encoded, cache: DecoderCache | None = None
    ) -> Float[Tensor, "batch length outputs"]:
        """What the decoder says of the token after each of `tokens`, which start with the prompt.

        Args:
            tokens: The tokens so far; with a cache, those that it does not yet remember.
            encoded: What the encoder gave for the same utterances.
            cache: Made by `decoder.make_cache()`.

        Raises:
            ValueError: If there is no decoder.
        """
        if self.decoder is None or self.tokens is None:
            raise ValueError(f"attention_weight={self.attention_weight}: the model has no decoder")
        x = self.tokens(tokens, 0 if cache is None else cache.past.offset)
        x = self.decoder(x, encoded.memory, memory_key_padding_mask=encoded.padding, cache=cache)
        return self.tokens.logits(x)


class FromFeatures(nn.Module):
    """A recogniser behind its features, for utterances of one length: without masks, so that a graph can hold it.

    Args:
        model: The recogniser.
    """

    def __init__(self, model: ASR) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Features) -> Float[Tensor, "batch shorter outputs"]:
        """Gives the logarithms of the CTC head's probabilities; the encoder's output where there is no such head."""
        model, (batch, frames) = self.model, features.shape[:2]
        x, lengths = model.subsampling(features, torch.full((batch,), frames, device=features.device))
        if model.position is not None:
            x = x + model.position(x.shape[1])
        encoded = Encoded(model.encoder(x), lengths, None)
        return encoded.memory if model.ctc_head is None else model.ctc_log_probs(encoded)


def _make_ctc_head(width: int, vocab_size: int) -> Linear:
    """A head to which, untrained, a blank is as probable as all tokens together.

    There are many more frames than tokens. Where all outputs begin alike, a network first learns to say `blank`
    whatever is heard, and of long utterances it may find no way out of that (`docs/LOG.md`).
    """
    head = Linear(width, vocab_size + 1)
    with torch.no_grad():
        head.bias.zero_()
        head.bias[-1] = math.log(vocab_size)
    return head


def _check(width: int, decoder: Decoder | None, vocab_size: int, attention_weight: float) -> None:
    if vocab_size < 1:
        raise ValueError(f"vocab_size={vocab_size} must be at least 1")
    if not 0 <= attention_weight <= 1:
        raise ValueError(f"attention_weight={attention_weight} is not in [0, 1]")
    if attention_weight == 0:
        return
    if decoder is None:
        raise ValueError(f"attention_weight={attention_weight} needs a decoder; 0 is CTC alone")
    if decoder.embed_dim != width or not decoder.has_memory:
        raise ValueError(
            f"decoder of width {decoder.embed_dim}, cross_attention={decoder.has_memory}: it must have the "
            f"encoder's width {width}, and encoder-decoder attention"
        )

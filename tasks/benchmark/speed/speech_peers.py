"""torchaudio's Conformer, transformers' Whisper, our own recogniser on padded batches: what ours is held against."""

from typing import Any

from torch import Tensor, nn
from torchaudio.models import Conformer

from core.masks import padding_mask
from tasks.asr.features import Audio, Lengths, without_silent
from tasks.asr.losses import NOTHING, shift
from tasks.asr.whisper import WhisperLogMel
from tasks.benchmark.speed.speech import MOST_TOKENS, NUM_SPECIAL, SAMPLE_RATE, Sizes, Tokens, answer, make_asr

KERNEL_SIZE = 31
"""Frames that a Conformer's depthwise convolution sees (Gulati et al. 2020)."""


class PaddedRecogniser(nn.Module):
    """Ours, but what is padding is computed too, and masked out of the attention.

    Args:
        sizes: The model's sizes.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.asr = make_asr(sizes)

    def forward(self, audio: Audio, audio_lengths: Lengths, tokens: Tokens, token_lengths: Lengths) -> Tensor:
        """As `answer` has it."""
        asr = self.asr
        assert asr.position is not None
        assert asr.ctc_head is not None
        x, frames = asr.subsampling(*asr.features(audio, without_silent(audio, audio_lengths)))
        x = asr.encoder(x + asr.position(x.shape[1]), key_padding_mask=padding_mask(frames, x.shape[1]))
        return answer(asr.ctc_head(x).log_softmax(-1), frames, tokens, token_lengths, training=self.training)


class PublishedConformer(nn.Module):
    """torchaudio's `Conformer` behind our features and subsampling, of which it has none, and before our CTC head.

    It has no positional encoding: its convolutions tell frames apart.

    Args:
        sizes: The model's sizes.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        asr = make_asr(sizes)
        self.features, self.subsampling, self.ctc_head = asr.features, asr.subsampling, asr.ctc_head
        stack = (sizes.width, sizes.heads, sizes.ffn_dim, sizes.layers, KERNEL_SIZE)
        self.conformer = Conformer(*stack, dropout=sizes.dropout)

    def forward(self, audio: Audio, audio_lengths: Lengths, tokens: Tokens, token_lengths: Lengths) -> Tensor:
        """As `answer` has it."""
        assert self.ctc_head is not None
        x, frames = self.subsampling(*self.features(audio, without_silent(audio, audio_lengths)))
        x, _ = self.conformer(x, frames)
        return answer(self.ctc_head(x).log_softmax(-1), frames, tokens, token_lengths, training=self.training)


class PublishedWhisper(nn.Module):
    """transformers' Whisper on windows of 30 s and texts of 448 tokens, as it is published: it takes no other windows.

    Args:
        sizes: The model's sizes.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        from transformers import WhisperConfig, WhisperForConditionalGeneration

        end = sizes.vocab_size
        sides = {"layers": sizes.layers, "attention_heads": sizes.heads, "ffn_dim": sizes.ffn_dim}
        stacks: dict[str, Any] = {
            f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in sides.items()
        }
        ends: dict[str, Any] = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), end)
        config = WhisperConfig(
            vocab_size=end + NUM_SPECIAL,
            d_model=sizes.width,
            dropout=sizes.dropout,
            decoder_start_token_id=end + 1,
            **stacks,
            **ends,
        )
        self.features = WhisperLogMel(SAMPLE_RATE)
        self.whisper = WhisperForConditionalGeneration(config)
        self.prompt, self.end = [end + 1, end + 2], end

    def forward(self, audio: Audio, audio_lengths: Lengths, tokens: Tokens, token_lengths: Lengths) -> Tensor:
        """The loss in training, else the logits of 448 tokens."""
        x, _ = self.features(audio, audio_lengths)
        given, labels = shift(tokens, token_lengths, self.prompt, self.end)
        rest = MOST_TOKENS - given.shape[1]
        given = nn.functional.pad(given, (0, rest), value=self.end)
        labels = nn.functional.pad(labels, (0, rest), value=NOTHING) if self.training else None
        output = self.whisper(input_features=x.mT, decoder_input_ids=given, labels=labels, use_cache=False)
        return output.loss if self.training else output.logits

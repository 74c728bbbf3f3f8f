"""What Whisper hears (Radford et al. 2022, section 2.2)."""

import torch
from torch import nn

from core.masks import padding_mask
from tasks.asr.features import Audio, Features, Lengths, MelFeatures

SAMPLE_RATE = 16_000
"""Hz."""
_FLOOR = 1e-10


class WhisperLogMel(MelFeatures):
    """Whisper's log-mel features: those of 8 decades of power below an utterance's loudest place, about -1 to 1.

    With the power p in a mel band, `x = log10(max(p, 1e-10))`, and m the largest x of the utterance, the feature is
    `(max(x, m - 8) + 4) / 4`. Frames of 25 ms, 10 ms apart; the audio is mirrored before its start.

    Args:
        sample_rate: Of the audio: 16,000 Hz.
        num_mels: Number of mel bands: 80, in the largest published models since 2023 128.
        max_seconds: The longest utterance, which the encoder has positions for.
        padded: Whether silence fills each utterance up to `max_seconds`, as in the training of what is published: the
            features are then the published ones, and all utterances cost as much as the longest. Otherwise they are
            the first of these, as many as the utterance has, and nothing is computed for padding.

    Raises:
        ValueError: If `sample_rate` is not 16,000, or another argument is not positive.

    >>> features, lengths = WhisperLogMel(16000, padded=False)(torch.randn(1, 16001), torch.tensor([16001]))
    >>> features.shape, lengths.tolist()
    (torch.Size([1, 101, 80]), [101])
    """

    def __init__(self, sample_rate: int, *, num_mels: int = 80, max_seconds: float = 30.0, padded: bool = True) -> None:
        if sample_rate != SAMPLE_RATE:
            raise ValueError(f"sample_rate={sample_rate}: Whisper hears {SAMPLE_RATE} Hz; set data.sample_rate to it")
        if num_mels < 1 or max_seconds <= 0:
            raise ValueError(f"num_mels={num_mels} and max_seconds={max_seconds} must be positive")
        super().__init__(sample_rate, num_mels, n_fft=400, win_length=400, hop_length=160, center=True)
        self.max_frames = round(max_seconds * sample_rate) // self.hop_length
        self.padded = padded

    def forward(self, audio: Audio, audio_lengths: Lengths) -> tuple[Features, Lengths]:
        lengths = self.lengths(audio_lengths)
        frames = int(lengths.max()) if len(lengths) else 0
        if frames > self.max_frames:
            raise ValueError(
                f"an utterance of {int(audio_lengths.max()) / self.sample_rate:.2f} s is longer than the "
                f"{self.max_frames * self.hop_seconds:g} s that Whisper hears: cut it, or leave it out"
            )
        if frames == 0:
            return audio.new_zeros(len(audio), 0, self.num_features), lengths
        if self.padded:
            frames = self.max_frames
            lengths = (lengths > 0) * frames
        audio = audio.masked_fill(padding_mask(audio_lengths, audio.shape[1]), 0.0).float()
        # Behind the last frame's centre the loudest place may be too. What is mirrored there is silence, but at the
        # very end of the longest utterance, where it is as published.
        samples = min(frames * self.hop_length + self.n_fft, self.max_frames * self.hop_length)
        with torch.autocast(audio.device.type, enabled=False):
            power = self.mel(nn.functional.pad(audio, (0, samples - audio.shape[1])))[..., : self.max_frames]
            x = power.clamp(min=_FLOOR).log10()
            x = (x.maximum(x.amax((1, 2), keepdim=True) - 8) + 4) / 4
        x = x[..., :frames].transpose(1, 2)
        return x.masked_fill(padding_mask(lengths, frames)[..., None], 0.0), lengths

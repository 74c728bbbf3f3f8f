"""From samples to log-mel features with exact lengths, and what hides parts of them in training."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchaudio.transforms import MelSpectrogram

from core.masks import padding_mask

Audio = Float[Tensor, "batch samples"]
Lengths = Int[Tensor, " batch"]
Features = Float[Tensor, "batch frames features"]

FLOOR = 1e-6
"""Power that is added before the logarithm: about that of white noise 80 dB below full scale."""
SILENCE = 1e-4
"""Amplitude that digital silence does not exceed: 80 dB below full scale."""


class MelFeatures(nn.Module, ABC):
    """Frames of the power in mel bands between 0 Hz and half the sample rate (Slaney's scale, bands of equal area).

    Args:
        sample_rate: Samples a second, in Hz.
        num_mels: Number of mel bands.
        n_fft: Samples of the Fourier transform.
        win_length: Samples of the Hann window.
        hop_length: Samples from one frame to the next.
        center: Whether frame t is centred on sample `t * hop_length`, the audio being mirrored beyond its ends; else
            it begins there.
    """

    def __init__(
        self, sample_rate: int, num_mels: int, *, n_fft: int, win_length: int, hop_length: int, center: bool
    ) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.num_features = num_mels
        self.hop_length = hop_length
        self.n_fft = n_fft
        self.mel = MelSpectrogram(
            sample_rate,
            n_fft=n_fft,
            win_length=win_length,
            hop_length=hop_length,
            n_mels=num_mels,
            center=center,
            norm="slaney",
            mel_scale="slaney",
        )

    @property
    def hop_seconds(self) -> float:
        """From one frame to the next."""
        return self.hop_length / self.sample_rate

    @property
    def band_frequencies(self) -> Float[Tensor, " features"]:
        """The mean frequency of each band, weighed as the band weighs it, in Hz."""
        bands: Tensor = self.mel.mel_scale.get_buffer("fb")
        hertz = torch.linspace(0, self.sample_rate / 2, len(bands), device=bands.device)
        return hertz @ bands / bands.sum(0)

    def lengths(self, audio_lengths: Lengths) -> Lengths:
        """Frames of utterances of so many samples."""
        return (audio_lengths + self.hop_length - 1) // self.hop_length

    @abstractmethod
    def forward(self, audio: Audio, audio_lengths: Lengths) -> tuple[Features, Lengths]:
        """Gives the features, zeros in padding, and how many frames each utterance has.

        Args:
            audio: Samples in [-1, 1]; what lies in padding changes nothing.
            audio_lengths: Samples of each utterance.

        Raises:
            ValueError: If a length is negative or exceeds the samples.
        """


class LogMel(MelFeatures):
    """Logarithm of the power in mel bands, normalised over the utterance's own frames.

    An utterance of n samples has `ceil(n / hop)` frames; frame t is centred on samples `t * hop` to `(t + 1) * hop`,
    and beyond both ends of an utterance are zeros. So its features are the same alone and padded.

    Args:
        sample_rate: Samples a second, in Hz.
        num_mels: Number of mel bands.
        window: Length of the Hann window, in seconds.
        hop: From one frame to the next, in seconds.
        per_band: Whether each band is normalised by itself, which takes out what room and microphone do; else all of
            them together, which leaves an utterance of one word its mean spectrum.

    Raises:
        ValueError: If an argument is not positive, the hop exceeds the window, or there are more bands than the
            window can tell apart.

    >>> features, lengths = LogMel(16000)(torch.randn(1, 16001), torch.tensor([16001]))
    >>> features.shape, lengths.tolist()
    (torch.Size([1, 101, 80]), [101])
    """

    def __init__(
        self, sample_rate: int, *, num_mels: int = 80, window: float = 0.025, hop: float = 0.01, per_band: bool = True
    ) -> None:
        if sample_rate < 1 or num_mels < 1:
            raise ValueError(f"sample_rate={sample_rate} and num_mels={num_mels} must be at least 1")
        hop_length, win_length = round(hop * sample_rate), round(window * sample_rate)
        if not 1 <= hop_length <= win_length:
            raise ValueError(
                f"hop={hop} and window={window} are {hop_length} and {win_length} samples at {sample_rate} Hz: "
                "the hop must be at least one sample and no more than the window"
            )
        n_fft = 1 << (win_length - 1).bit_length()
        super().__init__(sample_rate, num_mels, n_fft=n_fft, win_length=win_length, hop_length=hop_length, center=False)
        self.per_band = per_band
        bands: Tensor = self.mel.mel_scale.get_buffer("fb")
        if not bool(bands.any(0).all()):
            raise ValueError(f"num_mels={num_mels} are more than window={window} tells apart at {sample_rate} Hz")

    def forward(self, audio: Audio, audio_lengths: Lengths) -> tuple[Features, Lengths]:
        lengths = self.lengths(audio_lengths)
        frames = int(lengths.max()) if len(lengths) else 0
        if frames == 0:
            return audio.new_zeros(len(audio), 0, self.num_features), lengths
        audio = audio.masked_fill(padding_mask(audio_lengths, audio.shape[1]), 0.0)
        before = (self.n_fft - self.hop_length) // 2
        after = (frames - 1) * self.hop_length + self.n_fft - before - audio.shape[1]
        with torch.autocast(audio.device.type, enabled=False):
            power = self.mel(nn.functional.pad(audio.float(), (before, after)))
        return normalise((power + FLOOR).log().transpose(1, 2), lengths, per_band=self.per_band), lengths


def normalise(x: Features, lengths: Lengths, *, per_band: bool = True) -> Features:
    """Gives each utterance's features mean 0 and variance 1 over its own frames, and zeros in padding.

    Args:
        x: The features.
        lengths: Frames of each utterance.
        per_band: Whether each band by itself, or all of them together.
    """
    padding = padding_mask(lengths, x.shape[1])[..., None]
    axes, values = (1, 1) if per_band else ((1, 2), x.shape[2])
    count = lengths.clamp(min=1)[:, None, None] * values
    x = x - x.masked_fill(padding, 0.0).sum(axes, keepdim=True) / count
    variance = x.square().masked_fill(padding, 0.0).sum(axes, keepdim=True) / count
    return (x / (variance.sqrt() + 1e-3)).masked_fill(padding, 0.0)


def without_silent(audio: Audio, audio_lengths: Lengths) -> Lengths:
    """The lengths, 0 for an utterance of digital silence: it has nothing to be recognised.

    >>> without_silent(torch.tensor([[0.0, 0.0], [0.0, 0.5], [0.0, 0.5]]), torch.tensor([2, 2, 1])).tolist()
    [0, 2, 0]
    """
    heard = (audio.abs() > SILENCE) & ~padding_mask(audio_lengths, audio.shape[1])
    return audio_lengths.where(heard.any(1), 0)


class SpecAugment(nn.Module):
    """Hides random bands and random spans of time behind the features' mean (Park et al. 2019, section 2).

    A mask of frequency hides f bands from f0 on, f uniform in 0 to F, f0 uniform where it fits; a mask of time t frames
    likewise, t uniform in 0 to T, at most the share p of the utterance's own frames. F is `max_bands`, T
    `max_frames`, p `max_share`. In training only; random numbers are torch's.

    Args:
        num_band_masks: Masks of frequency for each utterance.
        max_bands: The most bands that one hides.
        num_time_masks: Masks of time for each utterance.
        max_frames: The most frames that one hides.
        max_share: The largest share of an utterance's frames that one hides.

    Raises:
        ValueError: If a number is negative, or `max_share` is not in [0, 1].
    """

    def __init__(
        self,
        *,
        num_band_masks: int = 2,
        max_bands: int = 15,
        num_time_masks: int = 2,
        max_frames: int = 40,
        max_share: float = 0.1,
    ) -> None:
        super().__init__()
        numbers = {"num_band_masks": num_band_masks, "max_bands": max_bands}
        numbers |= {"num_time_masks": num_time_masks, "max_frames": max_frames}
        for name, number in numbers.items():
            if number < 0:
                raise ValueError(f"{name}={number} must not be negative")
        if not 0 <= max_share <= 1:
            raise ValueError(f"max_share={max_share} is not in [0, 1]")
        self.num_band_masks, self.max_bands = num_band_masks, max_bands
        self.num_time_masks, self.max_frames, self.max_share = num_time_masks, max_frames, max_share

    def forward(self, x: Features, lengths: Lengths) -> Features:
        """Hides parts in training, and none otherwise."""
        if not self.training or not x.shape[1]:
            return x
        bands = torch.full_like(lengths, x.shape[2])
        widest = bands.clamp(max=self.max_bands)
        longest = (self.max_share * lengths).long().clamp(max=self.max_frames)
        hidden = _masks(bands, widest, self.num_band_masks, x.shape[2])[:, None, :]
        return x.masked_fill(hidden | _masks(lengths, longest, self.num_time_masks, x.shape[1])[:, :, None], 0.0)


def _masks(sizes: Lengths, most: Lengths, count: int, width: int) -> Tensor:
    """`count` random spans of 0 to `most` places within the first `sizes`, as one mask (batch, width)."""
    draws = torch.rand(2, len(sizes), count, device=sizes.device)
    spans = (draws[0] * (most[:, None] + 1)).long()
    starts = (draws[1] * (sizes[:, None] - spans + 1)).long()
    places = torch.arange(width, device=sizes.device)
    hidden = (places >= starts[..., None]) & (places < (starts + spans)[..., None])
    return hidden.any(1)

"""Rooms and noise: what is between a mouth and a microphone, all simulated, all decided by a generator."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32
from scipy import fft

REVERBERATION_TIMES = (0.1, 0.6)
"""Shortest and longest T60 of a room: seconds in which its echoes fall by 60 dB."""
DIRECT_TO_REVERBERANT = (0.0, 18.0)
"""How much energy comes straight from the mouth, against that of all echoes, in dB: far from it to near."""
SIGNAL_TO_NOISE = (10.0, 30.0)
"""Loudest and softest noise, as the power of the speech against that of the noise, in dB."""

_REFLECTIONS = (4, 12)
"""Fewest and most single echoes."""
_EARLY = (0.001, 0.03)
"""When they come, in seconds after the click."""
_LOWEST = 80.0
"""The spectrum of noise is flat below this frequency (Hz)."""
_MAINS = (50.0, 60.0)
"""Frequency of the mains (Hz), from Europe's to America's."""


class Recording(NamedTuple):
    """Speech as a microphone hears it, and what was done to it."""

    audio: Float32[np.ndarray, " samples"]
    t60: float
    """Reverberation time in seconds."""
    snr: float
    """Power of the speech against that of the noise, in dB."""
    noise: str
    """Which of `NOISES`."""


def record(
    audio: Float32[np.ndarray, " samples"], sample_rate: int, random: np.random.Generator, *, speech: slice
) -> Recording:
    """Plays speech in a room with noise.

    What comes straight from the mouth stays where it was in time, so that the times of its words remain true.

    Args:
        audio: Speech with silence around it.
        sample_rate: Its samples a second (Hz).
        random: Decides room, noise and the ratio of the two.
        speech: The samples between the first word and the last: the power of the speech is measured there.
    """
    t60, ratio, snr = (
        random.uniform(*limits) for limits in (REVERBERATION_TIMES, DIRECT_TO_REVERBERANT, SIGNAL_TO_NOISE)
    )
    kind = list(NOISES)[random.integers(len(NOISES))]
    heard = convolve(audio, impulse_response(random, sample_rate, t60=t60, ratio=ratio))
    background = NOISES[kind](random, len(audio), sample_rate)
    power, unwanted = (float(np.mean(np.square(sound[speech]))) for sound in (heard, background))
    gain = np.sqrt(power / (unwanted * 10 ** (snr / 10)))
    return Recording(heard + np.float32(gain) * background, t60, snr, kind)


def impulse_response(
    random: np.random.Generator, sample_rate: int, *, t60: float, ratio: float
) -> Float32[np.ndarray, " taps"]:
    r"""Draws what a room makes of a click: the click itself, single echoes, then a tail that dies away.

    The tail is noise $n(t)\, e^{-\delta t}$ with $\delta = 3 \ln 10 / T_{60}$ (Polack 1988, the statistical model of a
    diffuse field); the single echoes fall by the same law.

    Args:
        random: Decides the echoes.
        sample_rate: Samples a second (Hz).
        t60: Seconds in which the echoes fall by 60 dB; the answer is as long. Single echoes take 0.03 s.
        ratio: Energy of the click against that of all echoes, in dB.

    Raises:
        ValueError: If `t60` is too short.

    >>> answer = impulse_response(np.random.default_rng(0), 16000, t60=0.2, ratio=6.0)
    >>> len(answer), float(answer[0])
    (3200, 1.0)
    >>> round(float(10 * np.log10(1 / np.sum(answer[1:] ** 2))), 3)
    6.0
    """
    if t60 <= _EARLY[1]:
        raise ValueError(f"t60={t60} must be more than {_EARLY[1]} s")
    times = np.arange(int(t60 * sample_rate), dtype=np.float32) / np.float32(sample_rate)
    answer = random.standard_normal(len(times), dtype=np.float32)
    answer[times < _EARLY[0]] = 0.0
    answer *= np.minimum(times / np.float32(_EARLY[1]), 1)  # the echoes are few before they are many
    count = random.integers(*_REFLECTIONS, endpoint=True)
    places = (random.uniform(*_EARLY, count) * sample_rate).astype(np.int64)
    answer[places] += random.choice([-1, 1], count) * random.uniform(1, 4, count)
    answer *= np.exp(np.float32(-3 * np.log(10) / t60) * times)
    answer *= np.float32(np.sqrt(10 ** (-ratio / 10) / np.sum(np.square(answer))))
    answer[0] = 1.0
    return answer


def convolve(
    audio: Float32[np.ndarray, " samples"], answer: Float32[np.ndarray, " taps"]
) -> Float32[np.ndarray, " samples"]:
    """Convolves by way of the spectrum; what comes after the end of `audio` is cut off."""
    size = fft.next_fast_len(len(audio) + len(answer) - 1, real=True)
    spectrum = np.asarray(fft.rfft(audio, size)) * np.asarray(fft.rfft(answer, size))
    return np.asarray(fft.irfft(spectrum, size))[: len(audio)]


def white(random: np.random.Generator, length: int, _sample_rate: int) -> Float32[np.ndarray, " length"]:
    """As much power at each frequency: a hiss."""
    return random.standard_normal(length, dtype=np.float32)


def pink(random: np.random.Generator, length: int, sample_rate: int) -> Float32[np.ndarray, " length"]:
    """Power falls as 1/f: rain, a busy room."""
    return _shaped(random, length, sample_rate, lambda frequency: frequency**-0.5)


def brown(random: np.random.Generator, length: int, sample_rate: int) -> Float32[np.ndarray, " length"]:
    """Power falls as 1/f²: wind, a car."""
    return _shaped(random, length, sample_rate, lambda frequency: frequency**-1.0)


def hum(random: np.random.Generator, length: int, sample_rate: int) -> Float32[np.ndarray, " length"]:
    """Mains and its harmonics over a softer hiss: a machine."""
    sound = np.float32(0.3) * pink(random, length, sample_rate)
    lowest = random.uniform(*_MAINS)
    for harmonic in range(1, 9):
        amplitude = np.float32(random.uniform(0.2, 1) / harmonic)
        sound += amplitude * _tone(random, length, sample_rate, harmonic * lowest)
    return sound


def babble(random: np.random.Generator, length: int, sample_rate: int) -> Float32[np.ndarray, " length"]:
    """Noise with speech's long-term spectrum whose loudness goes up and down with syllables: people far away."""
    sound = _shaped(random, length, sample_rate, lambda frequency: 1 / (1 + (frequency / 500) ** 1.5))
    loudness = sum(_tone(random, length, sample_rate, syllables) for syllables in random.uniform(1, 6, 4))
    return sound * np.maximum(1 + loudness / 2, np.float32(0.1))


def _tone(
    random: np.random.Generator, length: int, sample_rate: int, frequency: float
) -> Float32[np.ndarray, " length"]:
    phase = random.uniform(0, 2 * np.pi)
    return np.sin(
        np.float32(2 * np.pi * frequency / sample_rate) * np.arange(length, dtype=np.float32) + np.float32(phase)
    )


def _shaped(
    random: np.random.Generator,
    length: int,
    sample_rate: int,
    amplitude: Callable[[Float32[np.ndarray, " bins"]], Float32[np.ndarray, " bins"]],
) -> Float32[np.ndarray, " length"]:
    """Gives noise whose spectrum has an amplitude for each frequency (Hz)."""
    size = fft.next_fast_len(length, real=True)
    spectrum = np.asarray(fft.rfft(random.standard_normal(size, dtype=np.float32)))
    frequency = np.linspace(0, sample_rate / 2, len(spectrum), dtype=np.float32)
    return np.asarray(fft.irfft(spectrum * amplitude(np.maximum(frequency, np.float32(_LOWEST))), size))[:length]


NOISES = {noise.__name__: noise for noise in (white, pink, brown, hum, babble)}
"""Each kind of noise by its name; a function of (random, samples, samples a second)."""

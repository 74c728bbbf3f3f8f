import doctest

import numpy as np
import pytest

from datamodules.speech import rooms
from datamodules.speech.rooms import DIRECT_TO_REVERBERANT, NOISES, convolve, impulse_response, record

RATE = 16000


def click(at: int, length: int = RATE) -> np.ndarray:
    audio = np.zeros(length, np.float32)
    audio[at] = 1
    return audio


def decibel(one, other) -> float:
    return 10 * float(np.log10(np.mean(np.square(one)) / np.mean(np.square(other))))


def test_doctests():
    assert doctest.testmod(rooms) == (0, 3)


@pytest.mark.parametrize("t60", [0.1, 0.35, 0.6])
def test_echoes_fall_by_60_db_in_the_reverberation_time(t60):
    """Schroeder's backward integral of the tail falls by 30 dB in half of the time."""
    slopes = []
    for seed in range(20):
        answer = impulse_response(np.random.default_rng(seed), RATE, t60=t60, ratio=0.0)
        energy = np.cumsum(np.square(answer[::-1], dtype=np.float64))[::-1]
        first, last = int(max(0.3 * t60, 0.03) * RATE), int(0.7 * t60 * RATE)
        slopes.append(10 * np.log10(energy[last] / energy[first]) / ((last - first) / RATE))
    assert np.mean(slopes) * t60 == pytest.approx(-60, rel=0.08)


def test_what_is_direct_comes_first_and_is_not_delayed():
    for seed in range(20):
        answer = impulse_response(np.random.default_rng(seed), RATE, t60=0.3, ratio=0.0)
        assert answer[0] == 1
        assert not answer[1:16].any()
        assert np.abs(answer[1:]).max() < 0.9
        assert answer.dtype == np.float32
        heard = convolve(click(100), answer)
        assert np.abs(heard[:100]).max() < 1e-6
        assert heard[100] == pytest.approx(1, abs=1e-5)


def test_convolution_is_numpys():
    random = np.random.default_rng(0)
    audio, answer = (random.standard_normal(size).astype(np.float32) for size in (1000, 300))
    np.testing.assert_allclose(convolve(audio, answer), np.convolve(audio, answer)[:1000], atol=1e-4)


def test_a_reverberation_time_that_is_too_short():
    with pytest.raises(ValueError, match=r"t60=0\.01 must be more than 0\.03 s"):
        impulse_response(np.random.default_rng(0), RATE, t60=0.01, ratio=0.0)


@pytest.mark.parametrize(("kind", "slope"), [("white", 0), ("pink", -3), ("brown", -6)])
def test_power_against_frequency(kind, slope):
    """In dB an octave, between 200 and 6400 Hz."""
    power = np.square(np.abs(np.fft.rfft(NOISES[kind](np.random.default_rng(0), 4 * RATE, RATE))))
    octaves = [10 * np.log10(power[4 * low : 8 * low].mean()) for low in (200, 400, 800, 1600, 3200)]
    assert np.polyfit(range(5), octaves, 1)[0] == pytest.approx(slope, abs=0.2)


def test_a_hum_has_lines_and_a_babble_goes_up_and_down():
    power = np.square(np.abs(np.fft.rfft(NOISES["hum"](np.random.default_rng(0), 4 * RATE, RATE))))
    assert 4 * 50 <= power.argmax() <= 4 * 8 * 60
    assert np.sort(power)[-40:].sum() > 0.5 * power.sum()
    frames = {
        kind: np.square(NOISES[kind](np.random.default_rng(0), 4 * RATE, RATE)).reshape(-1, 800) for kind in NOISES
    }
    assert (
        frames["babble"].mean(1).std()
        > 3 * frames["pink"].mean(1).std() / frames["pink"].mean() * frames["babble"].mean()
    )


@pytest.mark.parametrize("kind", NOISES)
def test_noise_is_seeded_and_of_any_length(kind):
    for length in (1, 2, 17, 16001):
        one, again, other = (NOISES[kind](np.random.default_rng(seed), length, RATE) for seed in (0, 0, 1))
        assert one.shape == (length,)
        assert one.dtype == np.float32
        assert np.isfinite(one).all()
        assert np.array_equal(one, again)
        assert not np.array_equal(one, other)


def test_a_recording_has_the_noise_that_it_says(monkeypatch):
    """The same room without noise, taken off, leaves the noise."""
    speech = slice(4000, 12000)
    dry = np.zeros(RATE, np.float32)
    dry[speech] = np.random.default_rng(9).standard_normal(8000)
    snrs, kinds = [], set()
    for seed in range(30):
        heard = record(dry, RATE, np.random.default_rng(seed), speech=speech)
        random = np.random.default_rng(seed)
        t60, ratio = random.uniform(0.1, 0.6), random.uniform(*DIRECT_TO_REVERBERANT)
        random.uniform(), random.integers(len(NOISES))
        clean = convolve(dry, impulse_response(random, RATE, t60=t60, ratio=ratio))
        assert heard.t60 == t60
        assert decibel(clean[speech], (heard.audio - clean)[speech]) == pytest.approx(heard.snr, abs=0.05)
        snrs.append(heard.snr)
        kinds.add(heard.noise)
    assert 10 <= min(snrs) < 13
    assert 27 < max(snrs) <= 30
    assert kinds == set(NOISES)

"""Features: exact lengths, nothing of the padding in them, and masks that stay within the utterance."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.asr.features import LogMel, SpecAugment, without_silent
from tests.tasks.asr.helpers import RATE, speech

LOG_MEL = LogMel(RATE, num_mels=20)
JOINT = LogMel(RATE, num_mels=20, per_band=False)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 1200), min_size=1, max_size=4), st.integers(0, 300), st.sampled_from([LOG_MEL, JOINT]))
@example([301, 100], 0, LOG_MEL)
def test_an_utterance_has_the_same_features_alone_and_padded(lengths, extra, log_mel):
    """Up to rounding: a logarithm near -14 is rounded by 1e-6, and divided by 1e-3 or more."""
    audio, samples = speech(*lengths)
    padded = torch.nn.functional.pad(audio, (0, extra), value=torch.nan)
    features, frames = log_mel(padded, samples)
    assert frames.tolist() == [-(-length // 80) for length in lengths]
    assert features.shape == (len(lengths), max(frames.tolist()), 20)
    for number, length in enumerate(lengths):
        alone, _ = log_mel(audio[number : number + 1, :length], samples[number : number + 1])
        torch.testing.assert_close(features[number, : frames[number]], alone[0], rtol=1e-4, atol=3e-3)
        assert not features[number, frames[number] :].any()


def test_they_are_the_logarithm_of_torchaudios_power_normalised():
    audio, samples = speech(4000)
    features, _ = LOG_MEL(audio, samples)
    edges = (LOG_MEL.n_fft - LOG_MEL.hop_length) // 2
    power = LOG_MEL.mel(torch.nn.functional.pad(audio, (edges, edges)))[0].T
    expected = (power + 1e-6).log()
    expected = (expected - expected.mean(0)) / (expected.std(0, correction=0) + 1e-3)
    torch.testing.assert_close(features[0], expected, rtol=1e-3, atol=1e-3)
    together = (power + 1e-6).log()
    together = (together - together.mean()) / (together.std(correction=0) + 1e-3)
    torch.testing.assert_close(JOINT(audio, samples)[0][0], together, rtol=1e-3, atol=1e-3)


def test_a_frame_is_centred_on_its_hop():
    """A click in the middle of hop 7 is loudest in frame 7."""
    audio = torch.zeros(1, 1600)
    audio[0, 7 * 80 + 40] = 1.0
    features, _ = LOG_MEL(audio, torch.tensor([1600]))
    assert int(features[0].sum(1).argmax()) == 7


@pytest.mark.parametrize("audio", [torch.zeros(1, 800), torch.ones(1, 800), torch.full((1, 800), -1.0)])
def test_silent_and_clipped_audio_has_finite_features(audio):
    assert LOG_MEL(audio, torch.tensor([800]))[0].isfinite().all()


def test_loudness_changes_little():
    audio, samples = speech(4000)
    loud, quiet = LOG_MEL(audio, samples)[0], LOG_MEL(audio / 10, samples)[0]
    assert (loud - quiet).abs().mean() < 0.1


def test_silence_is_what_nobody_can_hear():
    audio, samples = speech(800, 800, 0)
    audio[1] = 5e-5
    assert without_silent(audio, samples).tolist() == [800, 0, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LogMel(0), "sample_rate=0"),
        (lambda: LogMel(16000, num_mels=0), "num_mels=0"),
        (lambda: LogMel(16000, hop=0.03), "hop=0.03"),
        (lambda: LogMel(16000, hop=1e-6), "hop=1e-06"),
        (lambda: LogMel(8000, num_mels=400), "num_mels=400"),
        (lambda: SpecAugment(max_bands=-1), "max_bands=-1"),
        (lambda: SpecAugment(max_share=1.5), "max_share=1.5"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
def test_every_usual_rate_has_80_bands(rate):
    assert LogMel(rate).hop_seconds == pytest.approx(0.01, rel=0.01)


def test_masks_hide_whole_bands_and_spans_within_the_utterance():
    augment = SpecAugment(num_band_masks=1, max_bands=6, num_time_masks=1, max_frames=50, max_share=0.3)
    lengths = torch.tensor([40, 9, 1, 0])
    widths, spans = set(), set()
    torch.manual_seed(0)
    for _ in range(200):
        hidden = augment(torch.ones(4, 40, 20), lengths) == 0
        for number, length in enumerate(lengths.tolist()):
            rows, columns = hidden[number].all(1), hidden[number].all(0)
            torch.testing.assert_close(hidden[number], rows[:, None] | columns)
            assert not rows[length:].any()
            assert rows.sum() <= 0.3 * length
            widths.add(int(columns.sum()))
            spans.add(int(rows.sum()))
    assert widths == set(range(7))
    assert spans == set(range(13))


def test_masks_are_for_training_and_seeded():
    augment, x, lengths = SpecAugment(), torch.ones(3, 100, 80), torch.tensor([100, 80, 60])
    torch.manual_seed(3)
    first = augment(x, lengths)
    assert not torch.equal(augment(x, lengths), first)
    torch.manual_seed(3)
    torch.testing.assert_close(augment(x, lengths), first, rtol=0, atol=0)
    torch.testing.assert_close(augment.eval()(x, lengths), x, rtol=0, atol=0)

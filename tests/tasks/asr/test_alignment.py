"""Word times: those of torchaudio's forced alignment, in seconds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.functional import forced_align

from tasks.asr.alignment import REACH, Word, align, fit_to_sound, joined, split_words, spread

VOCABULARY = ["a", "b", " ", " the"]
BLANK = len(VOCABULARY)


def peaks(path, sure=0.9):
    """Log probabilities with `sure` on each frame's label, the rest on the others."""
    probs = torch.full((len(path), BLANK + 1), (1 - sure) / BLANK)
    probs[range(len(path)), path] = sure
    return probs.log()


def test_words_are_where_their_tokens_peak():
    path = [BLANK, 0, 0, 1, BLANK, 2, BLANK, BLANK, 1, BLANK, 3, 0, BLANK]
    words = align(peaks(path), [0, 1, 2, 1, 3, 0], VOCABULARY, 0.04, 0.5)
    assert [word.text for word in words] == ["ab", "b", "thea"]
    times = [(round(word.start / 0.04), round(word.end / 0.04)) for word in words]
    assert times == [(1, 4), (8, 9), (10, 12)]
    assert [word.confidence for word in words] == [pytest.approx(0.9)] * 3


def test_confidence_is_the_mean_probability_of_the_tokens():
    log_probs = torch.cat([peaks([0], 0.9), peaks([0], 0.7), peaks([1], 0.4)])
    (word,) = align(log_probs, [0, 1], VOCABULARY, 0.04, 1.0)
    assert word.confidence == pytest.approx((0.8 + 0.4) / 2)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.integers(6, 12), st.integers(0, 9999))
def test_times_follow_torchaudios_path(tokens, frames, seed):
    log_probs = torch.randn(frames, BLANK + 1, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)
    words = align(log_probs, tokens, VOCABULARY, 0.04, frames * 0.04)
    assert "".join(VOCABULARY[token] for token in tokens).split() == [word.text for word in words]
    edges = [edge for word in words for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    if words and words[0].confidence is not None:
        path, _ = forced_align(log_probs[None], torch.tensor([tokens]), blank=BLANK)
        spoken = [frame for frame, label in enumerate(path[0].tolist()) if VOCABULARY[label:][:1] not in ([], [" "])]
        assert words[0].start == pytest.approx(spoken[0] * 0.04)
        assert words[-1].end == pytest.approx((spoken[-1] + 1) * 0.04)


def test_too_few_frames_spread_the_words():
    words = align(peaks([0, 1]), [0, 0, 2, 1], VOCABULARY, 0.04, 0.3)
    assert words == [Word("aa", 0.0, pytest.approx(0.2), None), Word("b", pytest.approx(0.2), pytest.approx(0.3), None)]


def test_nothing_said_has_no_words():
    assert align(peaks([BLANK]), [], VOCABULARY, 0.04, 0.04) == []
    assert align(torch.zeros(0, 5), [], VOCABULARY, 0.04, 0.0) == []
    assert align(peaks([2, BLANK]), [2], VOCABULARY, 0.04, 0.04) == []
    assert spread([], 1.0) == []


def test_no_word_ends_behind_the_audio():
    (word,) = align(peaks([BLANK, 0, 0]), [0], VOCABULARY, 0.04, 0.1)
    assert (word.start, word.end) == (0.04, 0.1)


@given(st.lists(st.sampled_from(["a", "bc", " ", " d", "e ", "f  g", ""]), max_size=8))
def test_words_are_those_of_the_text(pieces):
    words = split_words(pieces)
    assert [word for word, _ in words] == "".join(pieces).split()
    for word, indices in words:
        assert set(word) <= set("".join(pieces[index] for index in indices))
        assert indices == sorted(set(indices))


def test_pieces_may_hold_parts_of_characters():
    """As those of byte-level tokenizers do."""
    assert split_words([" na", "\udcc3", "\udcaf", "ve \udce6", "\udc97\udca5"]) == [
        ("naïve", [0, 1, 2, 3]),
        ("日", [3, 4]),
    ]
    assert joined([" a", "\udcc3"]) == "a\ufffd"
    assert [word.text for word in spread(["\udcc3", "\udcaf b"], 2.0)] == ["ï", "b"]


def bursts(*spans, seconds=2.0, rate=8000):
    """Noise where there is a word, and noise 50 dB below elsewhere."""
    generator = torch.Generator().manual_seed(0)
    audio = 0.001 * torch.randn(round(seconds * rate), generator=generator)
    for start, end in spans:
        word = audio[round(start * rate) : round(end * rate)]
        word += 0.3 * torch.randn(len(word), generator=generator)
    return audio


def fitted(audio, *spans, confidence=0.9):
    words = fit_to_sound([Word("a", start, end, confidence) for start, end in spans], audio, 8000)
    return [(round(word.start, 6), round(word.end, 6)) for word in words]


def test_words_grow_to_where_their_sound_ends():
    audio = bursts((0.2, 0.5), (0.9, 1.3))
    assert fitted(audio, (0.32, 0.36), (1.08, 1.12)) == [(0.2, 0.5), (0.9, 1.3)]


def test_words_shrink_over_silence():
    assert fitted(bursts((0.2, 0.5)), (0.12, 0.6)) == [(0.2, 0.5)]


def test_words_without_a_pause_meet_half_way_and_none_grows_further_than_it_may():
    assert fitted(bursts((0.2, 0.8)), (0.3, 0.34), (0.54, 0.58)) == [(0.2, 0.44), (0.44, 0.8)]
    assert fitted(bursts((0.1, 1.9)), (0.98, 1.02)) == [(round(0.98 - REACH, 6), round(1.02 + REACH, 6))]


def test_what_nobody_heard_stays():
    spans = [(0.3, 0.34), (1.2, 1.3)]
    assert fitted(torch.zeros(16000), *spans) == spans
    assert fitted(0.1 * torch.randn(16000), *spans) == spans, "all equally loud"
    assert fitted(bursts((0.2, 0.5)), *spans)[1] == spans[1], "silence around it"
    assert fitted(bursts((0.2, 0.5)), *spans, confidence=None) == spans, "times that are only spread"
    assert fitted(torch.zeros(40), (0.0, 0.005)) == [(0.0, 0.005)]
    assert fit_to_sound([], bursts((0.2, 0.5)), 8000) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 2), min_size=2, max_size=8), st.lists(st.floats(0, 2), max_size=6))
def test_fitted_words_stay_in_order_and_in_the_audio(edges, sounds):
    edges, sounds = sorted(edges), sorted(sounds)
    spans = list(zip(edges[::2], edges[1::2], strict=False))
    found = fitted(bursts(*zip(sounds[::2], sounds[1::2], strict=False)), *spans)
    times = [time for span in found for time in span]
    assert times == sorted(times)
    assert times[0] >= -1e-9
    assert times[-1] <= 2.0 + 1e-9
    for (start, end), (first, last) in zip(found, spans, strict=True):
        assert start <= last + 0.01
        assert end >= first - 0.01

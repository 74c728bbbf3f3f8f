import builtins
import ctypes
import doctest
import hashlib
import importlib
import subprocess
import sys
import types
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.speech import espeak
from datamodules.speech.espeak import SAMPLE_RATE, list_accents, list_speakers, speak
from datamodules.speech.sentences import ACCENTS, SPEAKERS, vocabulary

TEXT = "turn on the light in the kitchen"


def test_doctests():
    assert doctest.testmod(espeak) == (0, 1)


def test_the_words_and_their_order():
    speech = speak(TEXT, "en-us+m3")
    assert [word.text for word in speech.words] == TEXT.split()
    assert all(0 <= word.start < word.end <= len(speech.audio) / SAMPLE_RATE for word in speech.words)
    assert all(one.end <= other.start for one, other in pairwise(speech.words))


@pytest.mark.parametrize("voice", ["en-gb", "en-us+m3", "en-gb-x-rp+belinda", "en-029+klatt3"])
def test_sound_is_in_the_words_and_silence_between(voice):
    """Words apart: these begin with stops and fricatives, before which eSpeak NG closes the mouth or pauses."""
    audio, words = speak("anna takes candles and apples to tom", voice, rate=130)
    loudness = np.abs(audio.astype(np.int32))
    inside = np.zeros(len(audio), bool)
    for word in words:
        span = slice(round(word.start * SAMPLE_RATE), round(word.end * SAMPLE_RATE))
        inside[span] = True
        assert loudness[span].mean() > 0.02 * loudness.max()
        assert loudness[span][[0, -1]].min() > 0.005 * loudness.max(), "no silence at the edges of a word"
    assert 0.04 * SAMPLE_RATE < (~inside).sum() < 0.3 * len(audio)
    assert loudness[~inside].max() < 0.01 * loudness.max()


def test_a_word_lasts_as_long_as_it_does_alone():
    """Were times off by a word, the long one would be short."""
    words = {word.text: word.end - word.start for word in speak("a potato is a hippopotamus", "en-us").words}
    assert words["a"] < words["is"] < words["potato"] < words["hippopotamus"]


def test_words_that_the_dictionary_takes_together_are_apart():
    for text in ["in the", "from the", "of the", "has been", "it is", "on the box in the market"]:
        assert [word.text for word in speak(text, "en-gb").words] == text.split()


def test_a_faster_rate_is_shorter_and_a_higher_pitch_sounds_otherwise():
    slow, fast = (len(speak(TEXT, "en-us", rate=rate).audio) for rate in (120, 220))
    assert fast < 0.7 * slow
    assert not np.array_equal(speak(TEXT, "en-us", pitch=30).audio, speak(TEXT, "en-us", pitch=70).audio)


def test_nothing_depends_on_what_was_said_before():
    speakers = " ".join(SPEAKERS.values()).split()
    first = {speaker: speak("see six birds", f"en-gb+{speaker}", rate=200) for speaker in speakers}
    for speaker in reversed(speakers):
        again = speak("see six birds", f"en-gb+{speaker}", rate=200)
        assert np.array_equal(again.audio, first[speaker].audio), speaker
        assert again.words == first[speaker].words
    assert len({speech.audio.tobytes() for speech in first.values()}) == len(speakers)


@pytest.mark.slow
def test_another_process_says_the_same_and_imports_the_package_late():
    code = (
        "import hashlib, sys; from datamodules.speech import espeak, spoken; print('espeakng_loader' in sys.modules);"
        f"print(hashlib.sha256(espeak.speak({TEXT!r}, 'en-us+m3').audio.tobytes()).hexdigest())"
    )
    late, said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split()
    assert late == "False"
    assert said == hashlib.sha256(speak(TEXT, "en-us+m3").audio.tobytes()).hexdigest()


FIRST, *OTHERS = ACCENTS.split()


@pytest.mark.parametrize("accent", [FIRST, *(pytest.param(accent, marks=pytest.mark.slow) for accent in OTHERS)])
def test_no_two_words_sound_alike(accent):
    words = vocabulary()
    assert len({speak(word, accent, rate=300).audio.tobytes() for word in words}) == len(words)
    assert np.array_equal(speak("too", "en-gb").audio, speak("two", "en-gb").audio), "or else this shows nothing"


def test_accents_and_speakers():
    assert set(ACCENTS.split()) <= set(list_accents())
    assert "en-shaw" not in list_accents()
    assert {"m1", "f1", "croak", "Mr serious"} <= set(list_speakers())
    voices = [*ACCENTS.split(), "en-gb+f1", "en-us+f1", "en-gb+Mr serious"]
    assert len({speak(TEXT, voice).audio.tobytes() for voice in voices}) == len(voices)


@pytest.mark.parametrize(
    "voice", ["", "+f1", "en-gb+", "en-gb+nobody", "xx", "en-shaw", "de", "en-gb+f1+m1", "en-gb+../x"]
)
def test_an_unknown_voice(voice):
    with pytest.raises(ValueError, match="is none of eSpeak NG's: give LANGUAGE or LANGUAGE") as caught:
        speak(TEXT, voice)
    assert repr(voice) in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("rate", 79), ("rate", 451), ("pitch", -1), ("pitch", 101)])
def test_a_number_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"^{name}={value} must be from"):
        speak(TEXT, "en-us", **{name: value})


@pytest.mark.parametrize(
    "text", ["", " ", "a  b", " a", "Two", "5", "a.b", "[[h@l]]", "<b>", "ü", "a\0b", "a\n", "'", "x" * 5]
)
def test_odd_text(text):
    if text == "x" * 5:
        assert len(speak(text, "en-us").words) == 1
        return
    with pytest.raises(ValueError, match="must be words of a to z and apostrophes") as caught:
        speak(text, "en-us")
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.text(max_size=200), st.text("abcdxyz' ", max_size=400)))
def test_any_text_is_spoken_or_refused(text):
    try:
        said = " ".join(word.text for word in speak(text, "en-gb+m1", rate=450).words)
    except ValueError as error:
        said, message = None, str(error)
    assert said == text or (said is None and "\n" not in message)


def test_the_package_is_missing(monkeypatch):
    def refuse(name, *args, **kwargs):
        if name == "espeakng_loader":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", refuse)
    espeak._voices.cache_clear()
    with pytest.raises(FileNotFoundError, match=r"espeakng-loader, which is missing: pip install -e '.\[speech\]'"):
        speak(TEXT, "en-us")


@pytest.mark.parametrize(
    ("library", "match"), [("missing.so", "cannot be loaded"), (None, "cannot read its data there")]
)
def test_a_damaged_package(library, match, tmp_path, monkeypatch):
    package = importlib.import_module("espeakng_loader")
    file = str(tmp_path / library) if library else package.get_library_path()
    damaged = types.SimpleNamespace(get_library_path=lambda: file, get_data_path=lambda: str(tmp_path))
    monkeypatch.setitem(sys.modules, "espeakng_loader", damaged)
    espeak._voices.cache_clear()
    with pytest.raises(ValueError, match=match) as caught:
        list_speakers()
    assert "\n" not in str(caught.value)
    assert not espeak._LOCK.locked()


def test_a_word_without_a_sound():
    """What the library would do if it left a word out."""
    with pytest.raises(ValueError, match="does not say each word of 'a b' by itself"):
        espeak._times(["a", "b"], [0, 10], np.ones(10, np.int16))
    with pytest.raises(ValueError, match="does not say each word"):
        espeak._times(["a", "b"], [0, 5, 10], np.array([9] * 5 + [0] * 5, np.int16))
    words = espeak._times(["a", "b"], [0, 5, 8], np.array([0, 9, 9, 0, 0, 0, 9, 0, 9], np.int16))
    assert [(word.start * SAMPLE_RATE, word.end * SAMPLE_RATE) for word in words] == [(1, 3), (6, 7)]


def test_an_echo_does_not_make_the_last_word_longer():
    """The speaker of the 0.3 s of echo, beside one of the same speed without."""
    echo, dry = (
        speak("orange flowers", f"en-us-nyc+{speaker}", rate=206).words for speaker in ("RicishayMax2", "anika")
    )
    assert echo[-1].end == pytest.approx(dry[-1].end, abs=0.02)


def test_the_loudest_negative_sample_is_no_overflow():
    words = espeak._times(["a"], [0, 3], np.array([0, -32768, 0], np.int16))
    assert [(word.start * SAMPLE_RATE, word.end * SAMPLE_RATE) for word in words] == [(1, 2)]


def test_the_layout_of_the_librarys_records():
    """As speak_lib.h has them on a machine of 64 bits."""
    assert ctypes.sizeof(espeak._Event) == 40
    assert ctypes.sizeof(espeak._Voice) == 40

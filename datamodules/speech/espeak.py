"""Speech by eSpeak NG, the synthesiser that the package `espeakng-loader` carries, and when each word is heard.

The library has state that nothing resets - the phase of its flutter, its random numbers -, so that a sentence would
depend on all that were spoken before it. It is therefore loaded anew for each sentence, which takes half a millisecond.
The package is GPL-3 and is imported only here, and only when something is to be spoken.
"""

import _ctypes
import ctypes
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int16

SAMPLE_RATE = 22050
"""Samples a second (Hz) of all that eSpeak NG says."""
RATES = (80, 450)
"""The slowest and the fastest speech, in words a minute."""

_WORDS = re.compile(r"[a-z']*[a-z][a-z']*( [a-z']*[a-z][a-z']*)*")
_FLOOR = 0.005
"""What is below this part of the peak (-46 dB) is silence; eSpeak NG's pauses are 0, but for voices with echo."""
_LOCK = threading.Lock()  # the library serves one at a time

# from eSpeak NG's speak_lib.h
_SYNCHRONOUS, _DONT_EXIT = 2, 0x8000
_RATE, _PITCH = 1, 3
_UTF8 = 1
_END, _WORD, _LAST = 0, 1, 5  # kinds of events: the end of the list, a word, the end of what was said


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


class _Voice(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Word(NamedTuple):
    """A word and when it is heard."""

    text: str
    start: float
    """Seconds at which its first sound begins; the closure before a stop as `t` is silent, and is left out."""
    end: float
    """Seconds at which its last sound ends."""


class Speech(NamedTuple):
    """What was said."""

    audio: Int16[np.ndarray, " samples"]
    """Samples at `SAMPLE_RATE`."""
    words: list[Word]


def speak(text: str, voice: str, *, rate: int = 170, pitch: int = 50) -> Speech:
    """Says a sentence; the same arguments give the same samples, whatever was said before.

    But for those speakers whose voice file sets a `breath`, as `f2` or `whisper`: eSpeak NG draws theirs from memory
    that it never set, or from C's `rand`.

    Args:
        text: Words of the letters a to z and apostrophes, with one space between two.
        voice: A language, or a language and a speaker, as `en-gb+f3`; see `list_accents` and `list_speakers`.
        rate: Words a minute, from 80 to 450.
        pitch: From 0 to 100; 50 is the voice's own.

    Raises:
        FileNotFoundError: If the package `espeakng-loader` is missing.
        ValueError: If an argument is none of these, or eSpeak NG does not say each word by itself.

    >>> [word.text for word in speak("seven blue boats", "en-gb+f3").words]
    ['seven', 'blue', 'boats']
    """
    if not _WORDS.fullmatch(text):
        raise ValueError(f"text={text[:80]!r} must be words of a to z and apostrophes, with one space between two")
    if not RATES[0] <= rate <= RATES[1]:
        raise ValueError(f"rate={rate} must be from {RATES[0]} to {RATES[1]} words a minute")
    if not 0 <= pitch <= 100:
        raise ValueError(f"pitch={pitch} must be from 0 to 100")
    accent, plus, speaker = voice.partition("+")
    accents = _accents()
    if accent not in accents or (plus and speaker not in list_speakers()):  # it would say it in another voice
        raise ValueError(f"voice={voice!r} is none of eSpeak NG's: give LANGUAGE or LANGUAGE+SPEAKER, as 'en-gb+f3'")
    pieces: list[bytes] = []
    places: dict[int, list[int]] = {_WORD: [], _LAST: []}

    def receive(samples: "ctypes._Pointer[ctypes.c_short]", count: int, event: "ctypes._Pointer[_Event]") -> int:
        if samples and count:
            pieces.append(ctypes.string_at(samples, 2 * count))
        place = 0
        while event[place].type != _END:
            if event[place].type in places:
                places[event[place].type].append(event[place].sample)
            place += 1
        return 0

    callback = _Callback(receive)
    # words with a plain space between would be taken together where the dictionary has them so, as "in the"
    spoken = text.replace(" ", "\N{NO-BREAK SPACE}").encode()
    with _library() as library:
        library.espeak_SetSynthCallback(callback)
        failed = library.espeak_SetVoiceByName(f"{accents[accent]}{plus}{speaker}".encode())
        failed |= library.espeak_SetParameter(_RATE, rate, 0) | library.espeak_SetParameter(_PITCH, pitch, 0)
        failed |= library.espeak_Synth(spoken, len(spoken) + 1, 0, 1, 0, _UTF8, None, None)
    if failed:
        raise ValueError(f"eSpeak NG cannot say {text[:80]!r} in the voice {voice!r}")
    audio = np.frombuffer(b"".join(pieces), np.int16)
    # after its last event come at most an echo and what was left to fill a buffer
    return Speech(audio, _times(text.split(" "), [*places[_WORD], *places[_LAST][-1:]], audio))


def list_accents() -> list[str]:
    """Lists eSpeak NG's variants of English that read Latin letters, as `en-us`.

    Raises:
        FileNotFoundError: If the package `espeakng-loader` is missing.
    """
    return list(_accents())


def list_speakers() -> list[str]:
    """Lists eSpeak NG's voice variants, as `f3`: who speaks, in whatever language.

    Raises:
        FileNotFoundError: If the package `espeakng-loader` is missing.
    """
    return [file.removeprefix("!v/") for _, file in _voices("variant")]


def _accents() -> dict[str, str]:
    """Gives the file of each accent: it loads by that name, while `en-gb` is no name of a file."""
    return {name: file for name, file in _voices("en") if not file.startswith("!v/") and name != "en-shaw"}


@cache
def _voices(language: str) -> list[tuple[str, str]]:
    """Gives the language and the file of each voice that speaks a language, in the order of their files."""
    with _library() as library:
        library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        found = library.espeak_ListVoices(ctypes.byref(_Voice(languages=language.encode())))
        voices, place = [], 0
        while found[place]:  # its strings are the library's, and go with it
            voice = found[place].contents
            voices.append((voice.languages[1:].decode(), voice.identifier.decode()))  # a byte of priority comes first
            place += 1
    return sorted(voices, key=lambda voice: voice[1])


@contextmanager
def _library() -> Iterator[ctypes.CDLL]:
    try:
        import espeakng_loader  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise FileNotFoundError(
            "the voices come with the package espeakng-loader, which is missing: pip install -e '.[speech]'"
        ) from None
    file, data = espeakng_loader.get_library_path(), Path(espeakng_loader.get_data_path())
    with _LOCK:
        try:
            library = ctypes.CDLL(file)
        except OSError as error:
            raise ValueError(f"{file}: cannot be loaded ({error}); install espeakng-loader anew") from None
        try:
            # without the option it would end the process if it missed its data
            if library.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), _DONT_EXIT) != SAMPLE_RATE:
                raise ValueError(f"{data}: eSpeak NG cannot read its data there; install espeakng-loader anew")
            yield library
        finally:
            library.espeak_Terminate()
            _unload(library)


def _unload(library: ctypes.CDLL) -> None:
    if sys.platform == "win32":
        _ctypes.FreeLibrary(library._handle)
    else:
        _ctypes.dlclose(library._handle)


def _times(words: list[str], edges: list[int], audio: Int16[np.ndarray, " samples"]) -> list[Word]:
    """Finds when each word is heard: from the library's event on to the next, without the silence at both ends."""
    loud = np.abs(audio.astype(np.int32)) > _FLOOR * np.abs(audio.astype(np.int32)).max(initial=1)
    heard = [first + np.flatnonzero(loud[first:last]) for first, last in pairwise(edges)]
    if len(heard) != len(words) or not all(len(samples) for samples in heard):
        raise ValueError(f"eSpeak NG does not say each word of {' '.join(words)[:80]!r} by itself")
    return [
        Word(word, float(samples[0] / SAMPLE_RATE), float((samples[-1] + 1) / SAMPLE_RATE))
        for word, samples in zip(words, heard, strict=True)
    ]

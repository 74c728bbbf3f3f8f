"""Makes the spoken sentences of eSpeak NG on disk: speech recognition without a download."""

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from jaxtyping import Float32, Int16
from scipy import signal
from torch.utils.data import DataLoader, Dataset

from datamodules.base import Split
from datamodules.making import MadeSet
from datamodules.speech import espeak
from datamodules.speech.rooms import record
from datamodules.speech.sentences import draw_line

SAMPLE_RATE = 16000
"""Samples a second (Hz)."""
NUM_SENTENCES: dict[Split, int] = {"train": 6000, "val": 300, "test": 500}

_MANY = 100
_SILENCE = (0.05, 0.3)
"""Least and most silence before the first word, and after the last, in seconds."""
_PEAK = (-12.0, -3.0)
"""Lowest and highest peak of a recording, in dB of full scale."""


class Spoken(NamedTuple):
    """A spoken sentence of the set."""

    audio: Path
    text: str
    words: list[espeak.Word]
    """Each word, and when it is heard, in seconds."""
    voice: str
    """Who speaks, as `en-gb+f3`."""
    rate: int
    """Words a minute."""
    pitch: int
    """From 0 to 100; 50 is the voice's own."""
    snr: float
    """Power of the speech against that of the noise, in dB."""
    t60: float
    """Seconds in which the room's echoes fall by 60 dB."""
    noise: str
    """Kind of the noise."""


def make_spoken(folder: Path, *, counts: Mapping[Split, int] = NUM_SENTENCES, seed: int = 0) -> None:
    """Makes spoken sentences as `folder/<part>/*.flac` and `folder/<part>.jsonl`, all of them or none.

    They are written beside the folder and then renamed. What is there already is left as it is.

    Args:
        folder: Where to.
        counts: Number of sentences of each part; a sentence does not depend on how many there are.
        seed: Decides all that is random.

    Raises:
        FileNotFoundError: If the package `espeakng-loader` is missing.
        ValueError: If they cannot be written, or `folder` is there but is not a whole set.
    """
    made = MadeSet(folder, "spoken sentences", [f"{split}.jsonl" for split in NUM_SENTENCES])
    if not made.is_there():
        espeak.list_accents()  # says that the package is missing before anything is written
        made.make(lambda beside: _write(beside, counts, seed))


def read_spoken(folder: Path, split: Split) -> list[Spoken]:
    """Reads a part's list of sentences, without their audio.

    Raises:
        FileNotFoundError: If the list is missing.
        ValueError: If a line of it is damaged.
    """
    file = folder / f"{split}.jsonl"
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; it lists the {split} part of the spoken sentences")
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row: dict[str, Any] = json.loads(line)
            words = [espeak.Word(*word) for word in row["words"]]
            rows.append(Spoken(**{**row, "audio": folder / row["audio"], "words": words}))
        except (ValueError, TypeError, KeyError):
            raise ValueError(f"{file}: line {number} is damaged; remove the folder, and the set is made anew") from None
    return rows


def speak_sentence(part: Split, number: int, *, seed: int = 0) -> tuple[Int16[np.ndarray, " samples"], dict[str, Any]]:
    """Makes a sentence of the set: its samples at `SAMPLE_RATE` and what there is to know of it.

    It depends on its arguments only, so that sentences may be made in any order and number.

    Args:
        part: Which speakers and sentences there may be.
        number: Number of the sentence in its part, from 0.
        seed: Decides all that is random.

    Raises:
        FileNotFoundError: If the package `espeakng-loader` is missing.
    """
    random = np.random.default_rng([seed, list(NUM_SENTENCES).index(part), number])
    line = draw_line(random, part)
    speech = espeak.speak(line.text, line.voice, rate=line.rate, pitch=line.pitch)
    first, last = speech.words[0].start, speech.words[-1].end
    dry = _resample(speech.audio[round(first * espeak.SAMPLE_RATE) : round(last * espeak.SAMPLE_RATE)])
    before, after = (round(seconds * SAMPLE_RATE) for seconds in random.uniform(*_SILENCE, 2))
    spoken = slice(before, before + len(dry))
    heard = record(np.pad(dry, (before, after)), SAMPLE_RATE, random, speech=spoken)
    peak = 10 ** (random.uniform(*_PEAK) / 20) * 32767
    audio = np.round(heard.audio * (peak / np.abs(heard.audio).max())).astype(np.int16)
    shift = before / SAMPLE_RATE - first
    words = [[text, round(start + shift, 4), round(end + shift, 4)] for text, start, end in speech.words]
    facts = {"snr": round(heard.snr, 2), "t60": round(heard.t60, 3), "noise": heard.noise}
    return audio, {"text": line.text, "words": words, **line._asdict(), **facts}


@dataclass(frozen=True)
class _Sentences(Dataset):
    """A part's sentences: the FLAC file of each, and its row of the list."""

    part: Split
    count: int
    seed: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[bytes, dict[str, Any]]:
        audio, row = speak_sentence(self.part, number, seed=self.seed)
        encoded = io.BytesIO()
        soundfile.write(encoded, audio, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        return encoded.getvalue(), row


def _write(folder: Path, counts: Mapping[Split, int], seed: int) -> None:
    for split in NUM_SENTENCES:
        (folder / split).mkdir(parents=True)
        lines = []
        sentences = _Sentences(split, counts[split], seed)
        # A few are spoken sooner than a process starts; more than eight processes would wait for the disk.
        workers = min(os.cpu_count() or 1, 8) if len(sentences) > _MANY else 0
        for number, (audio, row) in enumerate(DataLoader(sentences, batch_size=None, num_workers=workers)):
            name = f"{split}/{number:05}.flac"
            (folder / name).write_bytes(audio)  # soundfile would wait for the disk after each file
            lines.append(json.dumps({"audio": name, **row}) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


def _resample(audio: Int16[np.ndarray, " samples"]) -> Float32[np.ndarray, " resampled"]:
    divisor = np.gcd(SAMPLE_RATE, espeak.SAMPLE_RATE)
    up, down = SAMPLE_RATE // divisor, espeak.SAMPLE_RATE // divisor
    return signal.resample_poly(audio.astype(np.float32) / np.float32(32768), up, down, window=_low_pass(up, down))


@cache
def _low_pass(up: int, down: int) -> Float32[np.ndarray, " taps"]:
    """Designs the filter once; `resample_poly` would do it at each call, which takes longer than to apply it."""
    most = max(up, down)
    return np.asarray(signal.firwin(20 * most + 1, 1 / most), dtype=np.float32)

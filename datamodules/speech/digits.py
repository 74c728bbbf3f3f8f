"""The free-spoken-digit-dataset (Jackson et al. 2018): single digits of six speakers, and strings of them."""

import re
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from datamodules.base import Split
from datamodules.seeded import mix
from datamodules.speech.base import SpeechDataModule
from datamodules.speech.recordings import Recordings, Utterance
from datamodules.speech.samples import SpeechSamples, Spoken
from datamodules.speech.text import Tokenizer

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_FOLDER = Path("free-spoken-digit-dataset", "recordings")
_INDICES: dict[Split, range] = {"test": range(5), "val": range(5, 10), "train": range(10, 2**31)}
_COUNT = (3, 7)  # digits of a string, least and most
_PAUSE = (0.05, 0.5)  # seconds between two digits
_EDGE = (0.0, 0.3)  # seconds before the first and after the last


class FreeSpokenDigits(SpeechDataModule):
    """Recordings of the digits, `recordings/{digit}_{speaker}_{index}.wav`, at 8 kHz.

    The official split: indices 0 to 4 of each speaker and digit are the test; of the others 5 to 9 validate. `root` is
    the folder with the recordings, or one that holds it as `free-spoken-digit-dataset/recordings`.

    A string is 3 to 7 recordings of one speaker, with random pauses of silence between them (0.05 to 0.5 s) and at its
    ends (up to 0.3 s); its batch has the times of its `words`. In training it is another one in each epoch.

    Args:
        strings: Share of the training and validation samples that begin a string instead of being alone.
        test_strings: Number of strings of test recordings to test on; 0 = on the single recordings.
        strings_seed: Decides the strings of validation and test.
        sample_rate: Rate that audio is brought to, Hz.
        speech: The other arguments of `SpeechDataModule`.

    Raises:
        ValueError: If `strings` is not in [0, 1] or `test_strings` is negative.
    """

    found_by = ("recordings/[0-9]_*_*.wav", "[0-9]_*_*.wav")

    def __init__(
        self,
        *,
        strings: float = 0.0,
        test_strings: int = 0,
        strings_seed: int = 0,
        sample_rate: int = 8_000,
        **speech: Any,
    ) -> None:
        super().__init__(sample_rate=sample_rate, **speech)
        if not 0 <= strings <= 1:
            raise ValueError(f"strings={strings} must be in [0, 1]")
        if test_strings < 0:
            raise ValueError(f"test_strings={test_strings} must not be negative")
        self.strings = strings
        self.test_strings = test_strings
        self.strings_seed = strings_seed

    def _utterances(self, split: Split) -> list[Utterance]:
        root = self.root / _FOLDER if (self.root / _FOLDER).is_dir() else self.root
        return read_digits(root / "recordings" if (root / "recordings").is_dir() else root, _INDICES[split])

    def _samples(self, split: Split) -> SpeechSamples:
        seed = None if split == "train" else self.strings_seed
        share, size = (float(self.test_strings > 0), self.test_strings) if split == "test" else (self.strings, 0)
        if not share:
            return super()._samples(split)
        speeds = self.speeds if split == "train" else ()
        return StringSamples(
            self.recordings(split), self._tokenizer(), share=share, size=size or None, seed=seed, speeds=speeds
        )


def read_digits(folder: Path, indices: range) -> list[Utterance]:
    """Lists the recordings `{digit}_{speaker}_{index}.wav` of some indices, by their names.

    Raises:
        FileNotFoundError: If the folder is missing or holds no such file.
    """
    found = []
    for path in sorted(folder.glob("*.wav")):
        match = re.fullmatch(r"(\d)_(.+)_(\d+)", path.stem)
        if match and int(match[3]) in indices:
            found.append(Utterance(path, DIGITS[int(match[1])], str(folder)))
    if not found:
        raise FileNotFoundError(
            f"{folder}: holds no recordings {{digit}}_{{speaker}}_{{index}}.wav of the free-spoken-digit-dataset; give"
            " the folder that has them with --data.root"
        )
    return found


class _String(NamedTuple):
    """Numbers of recordings, and samples of silence before each and after the last."""

    members: list[int]
    pauses: list[int]


class StringSamples(SpeechSamples):
    """Single recordings, and strings of recordings of one speaker, drawn by the seed.

    Args:
        recordings: The recordings, whose files are named `{digit}_{speaker}_{index}`.
        tokenizer: Gives the tokens of a text.
        share: Share of the samples that are strings.
        size: Number of samples; one for each recording if not given. Sample i begins with recording i (modulo their
            number).
        seed: What decides a sample that comes without a seed of its own.
        speeds: Factors of the speed, one of which is drawn by the seed.
    """

    def __init__(
        self,
        recordings: Recordings,
        tokenizer: Tokenizer,
        *,
        share: float,
        size: int | None = None,
        seed: int | None = None,
        speeds: Sequence[Fraction] = (),
    ) -> None:
        super().__init__(recordings, tokenizer, speeds=speeds)
        self.share = share
        self.size = size or len(recordings)
        self.own_seeds = None if seed is None else mix(seed, 0, np.arange(self.size))
        self._speakers = [utterance.path.stem.split("_", 1)[1].rsplit("_", 1)[0] for utterance in recordings.utterances]
        self._of: dict[str, list[int]] = defaultdict(list)
        for number, speaker in enumerate(self._speakers):
            self._of[speaker].append(number)

    def __len__(self) -> int:
        return self.size

    def _string(self, index: int, seed: int) -> _String:
        """What a sample is made of; a single recording is a string of one without pauses."""
        random = np.random.default_rng(seed if self.own_seeds is None else int(self.own_seeds[index]))
        first = index % len(self.recordings)
        if random.random() >= self.share:
            return _String([first], [0, 0])
        count = int(random.integers(_COUNT[0], _COUNT[1] + 1))
        others = random.choice(self._of[self._speakers[first]], size=count - 1)
        pauses = np.concatenate(
            [random.uniform(*_EDGE, 1), random.uniform(*_PAUSE, count - 1), random.uniform(*_EDGE, 1)]
        )
        return _String([first, *others.tolist()], (pauses * self.recordings.sample_rate).astype(int).tolist())

    def plain_lengths(self, seeds: np.ndarray) -> np.ndarray:
        """Samples of each utterance under its seed, before the speed is changed."""
        strings = (self._string(index, seed) for index, seed in enumerate(seeds.tolist()))
        lengths = self.recordings.lengths
        return np.array([int(lengths[string.members].sum()) + sum(string.pauses) for string in strings])

    def speak(self, index: int, seed: int) -> Spoken:
        """Gives a recording or a string, with the seconds at which its digits begin and end."""
        members, pauses = self._string(index, seed)
        parts, words, place = [torch.zeros(pauses[0])], [], pauses[0]
        for number, pause in zip(members, pauses[1:], strict=True):
            audio = self.recordings.read(number)
            end = place + len(audio)
            word = self.recordings.texts[number]
            words.append((word, place / self.recordings.sample_rate, end / self.recordings.sample_rate))
            parts += [audio, torch.zeros(pause)]
            place = end + pause
        name = "+".join(self.recordings.utterances[number].path.stem for number in members)
        return Spoken(torch.cat(parts), " ".join(word for word, *_ in words), name, words)

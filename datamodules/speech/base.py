"""What the data modules of speech share: recordings with transcripts, in batches of about one length."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch.utils.data import DataLoader

from datamodules.base import STAGES, DataModule, Split, as_it_is
from datamodules.prediction import find_inputs
from datamodules.seeded import TrainLoader
from datamodules.speech.batching import FixedBatches, LengthSampler
from datamodules.speech.reading import AUDIO_SUFFIXES
from datamodules.speech.recordings import Recordings, Utterance
from datamodules.speech.samples import SpeechSamples, collate
from datamodules.speech.text import (
    ByteTokenizer,
    CharacterTokenizer,
    SubwordTokenizer,
    TextNormalizer,
    Tokenizer,
    restore_tokenizer,
)
from datamodules.speech.windows import AudioWindows

_MIN_SECONDS = 0.05  # shorter training utterances hold no speech
_NUM_NAMED = 5  # characters that a warning names


class SpeechDataModule(DataModule):
    """Recordings with transcripts: a subclass lists the utterances of each part, and all else is here.

    A batch has `audio` (batch, samples) in [-1, 1] with 0 in the padding, `audio_lengths` (batch,) in samples, `tokens`
    (batch, most) with 0 in the padding, `token_lengths` (batch,), the normalised `text` and the `name` of each
    utterance, and `words`, for each a list of (word, start, end) in seconds, where these are known. Its utterances are
    of about one length, so that padding is under a tenth of an epoch's audio; how many there are differs.

    Its facts: `vocabulary` (the piece of text that each token stands for), `vocab_size`, `sample_rate`, and what
    rebuilds the `normalization` and the `tokenizer`.

    Args:
        root: Folder of the data; `$ONECORE_DATA` if not given, or else `data`.
        batch_seconds: The most audio in a batch, per process, padding included; a longer utterance is alone in its
            batch.
        num_workers: Processes that prepare batches, beside the one that trains.
        sample_rate: Rate that audio is brought to, Hz.
        normalization: How transcripts are normalised.
        num_subwords: Number of subword units (byte pair encoding of the training transcripts); characters if not given.
        tokenizer_file: A published model's `tokenizer.json`, byte pair encoding over bytes as GPT-2's and Whisper's,
            whose pieces of text are taken; none is learnt if not given.
        speeds: Factors of the speed of a training utterance, one of which is drawn each time, as [0.9, 1.0, 1.1].
        max_seconds: Longer utterances are left out of training, and a warning counts them.
        window_seconds: Length of the windows in which files to predict are read.
        overlap_seconds: What a window shares with the next.
        cache_bytes: The most memory for decoded audio of a part.
        cache_dir: Folder where decoded audio is kept as well, so that the next run need not decode it; none if not
            given.
        seed: Decides order and augmentation of the training; `$PL_GLOBAL_SEED` if not given, or else 0.

    Raises:
        ValueError: If a number is out of its range, or both `num_subwords` and `tokenizer_file` are given.
    """

    fact_names = ("vocabulary", "vocab_size", "sample_rate", "normalization", "tokenizer")
    _taken = "batches"

    def __init__(
        self,
        *,
        root: str | None = None,
        batch_seconds: float = 120.0,
        num_workers: int = 0,
        sample_rate: int = 16_000,
        normalization: TextNormalizer = TextNormalizer(),  # noqa: B008 - frozen, and so shared without harm
        num_subwords: int | None = None,
        tokenizer_file: str | None = None,
        speeds: list[float] | None = None,
        max_seconds: float = 30.0,
        window_seconds: float = 30.0,
        overlap_seconds: float = 4.0,
        cache_bytes: int = 2**30,
        cache_dir: str | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(root=root, num_workers=num_workers, seed=seed)
        for name in ("batch_seconds", "max_seconds", "window_seconds"):
            if not locals()[name] > 0:
                raise ValueError(f"{name}={locals()[name]} must be positive")
        if sample_rate < 1000:
            raise ValueError(f"sample_rate={sample_rate} must be 1000 Hz at least")
        if not 0 <= overlap_seconds < window_seconds:
            raise ValueError(f"overlap_seconds={overlap_seconds} must be in [0, window_seconds={window_seconds})")
        if cache_bytes < 0:
            raise ValueError(f"cache_bytes={cache_bytes} must not be negative")
        if num_subwords is not None and num_subwords < 1:
            raise ValueError(f"num_subwords={num_subwords} must be positive")
        if num_subwords is not None and tokenizer_file is not None:
            raise ValueError(f"num_subwords={num_subwords} and tokenizer_file={tokenizer_file}: give one or neither")
        if not all(0.5 <= speed <= 2 for speed in speeds or []):
            raise ValueError(f"speeds={speeds} must be between 0.5 and 2")
        self.batch_seconds = batch_seconds
        self._normalizer = normalization
        self.num_subwords = num_subwords
        self.tokenizer_file = None if tokenizer_file is None else Path(tokenizer_file).expanduser().absolute()
        self.speeds = [Fraction(round(100 * speed), 100) for speed in speeds or []]
        self.max_seconds = max_seconds
        self.window_seconds = window_seconds
        self.overlap_seconds = overlap_seconds
        self.cache_bytes = cache_bytes
        self.cache_dir = None if cache_dir is None else Path(cache_dir).expanduser().absolute()
        self._sample_rate = sample_rate
        self._listed: dict[Split, list[Utterance]] = {}
        self._texts: dict[Split, list[str]] = {}
        self._recordings: dict[Split, Recordings] = {}
        self._restored: Tokenizer | None = None

    @abstractmethod
    def _utterances(self, split: Split) -> list[Utterance]:
        """Lists the utterances of a part, without a look at the audio.

        Raises:
            ValueError: If the list cannot be read; one line that says what is wrong and where.
            FileNotFoundError: If it is missing.
        """

    def _list(self, split: Split) -> list[Utterance]:
        if split not in self._listed:
            self._listed[split] = self._utterances(split)
            if not self._listed[split]:
                raise ValueError(f"{self.root}: the {split} part has no utterance")
        return self._listed[split]

    def _normalized(self, split: Split) -> list[str]:
        """The texts of a part's utterances; each is normalised once."""
        if split not in self._texts:
            self._texts[split] = [self._normalizer(utterance.text) for utterance in self._list(split)]
        return self._texts[split]

    def _find_facts(self) -> dict[str, Any]:
        tokenizer = self._make_tokenizer()
        return {
            "vocabulary": tokenizer.vocabulary,
            "vocab_size": len(tokenizer.vocabulary),
            "sample_rate": self._sample_rate,
            "normalization": asdict(self._normalizer),
            "tokenizer": tokenizer.state,
        }

    def _make_tokenizer(self) -> Tokenizer:
        if self.tokenizer_file is not None:
            return ByteTokenizer.read(self.tokenizer_file)  # without a look at the data: there may be none
        texts = self._normalized("train")
        if not any(texts):
            raise ValueError(f"{self.root}: the training part has no text, and so nothing to be learnt")
        if self.num_subwords is None:
            return CharacterTokenizer.train(texts)
        return SubwordTokenizer.train(texts, self.num_subwords)

    def restore_facts(self, facts: Mapping[str, Any]) -> None:
        """Sets the facts of a trained model, so that no data need be there.

        Args:
            facts: `facts` of the data module that the model was trained with.

        Raises:
            ValueError: If one is missing.
        """
        super().restore_facts(facts)
        self._normalizer = TextNormalizer(**facts["normalization"])
        self._texts, self._recordings, self._restored = {}, {}, None

    @property
    def vocabulary(self) -> list[str]:
        """The piece of text that each token stands for."""
        return self.facts["vocabulary"]

    @property
    def vocab_size(self) -> int:
        """Number of pieces of text; what marks a blank, a start or an end is the model's own."""
        return self.facts["vocab_size"]

    @property
    def sample_rate(self) -> int:
        """Rate of the audio, Hz."""
        return self.facts["sample_rate"]

    @property
    def normalization(self) -> dict[str, str]:
        """What rebuilds the normaliser of texts."""
        return self.facts["normalization"]

    @property
    def tokenizer(self) -> dict[str, Any]:
        """What rebuilds the tokenizer."""
        return self.facts["tokenizer"]

    def _tokenizer(self) -> Tokenizer:
        if self._restored is None:
            self._restored = restore_tokenizer(self.facts)
        return self._restored

    def setup(self, stage: str | None = None) -> None:
        """Lists what a stage needs, and looks at the head of each of its files."""
        for split in STAGES.get(stage, ()):
            self.recordings(split)

    def recordings(self, split: Split) -> Recordings:
        """Gives the utterances of a part; they are listed once. Training leaves out those too long or too short.

        Raises:
            ValueError: If a list or a recording cannot be read; one line.
            FileNotFoundError: If one is missing.
        """
        if split not in self._recordings:
            recordings = Recordings(
                self._list(split),
                self._normalized(split),
                sample_rate=self.sample_rate,
                cache_bytes=self.cache_bytes,
                cache_dir=self.cache_dir,
            )
            if split == "train":
                recordings = self._of_fit_length(recordings)
            self._warn_of_unknown(recordings, split)
            self._recordings[split] = recordings
        return self._recordings[split]

    def _of_fit_length(self, recordings: Recordings) -> Recordings:
        seconds = recordings.lengths / recordings.sample_rate
        fit = (seconds <= self.max_seconds) & (seconds >= _MIN_SECONDS)
        if fit.all():
            return recordings
        bad = np.flatnonzero(~fit)
        where = recordings.utterances[bad[0]].where
        message = (
            f"{len(bad)} of {len(recordings)} training utterances are shorter than {_MIN_SECONDS} s or longer than "
            f"max_seconds={self.max_seconds} and left out: {where} ({seconds[bad[0]]:.2f} s){', ...' * (len(bad) > 1)}"
        )
        if not fit.any():
            raise ValueError(message)
        rank_zero_warn(message)
        return recordings.select(np.flatnonzero(fit))

    def _warn_of_unknown(self, recordings: Recordings, split: Split) -> None:
        knows = self._tokenizer().knows
        unknown = Counter(character for text in recordings.texts for character in text if not knows(character))
        if unknown:
            named = ", ".join(f"{character!r} ({count})" for character, count in unknown.most_common(_NUM_NAMED))
            more = ", ..." if len(unknown) > _NUM_NAMED else ""
            rank_zero_warn(
                f"{unknown.total()} characters of the {split} part are none of the vocabulary's and are left out of "
                f"its tokens: {named}{more}"
            )

    def _samples(self, split: Split) -> SpeechSamples:
        """The samples of a part."""
        speeds = self.speeds if split == "train" else ()
        return SpeechSamples(self.recordings(split), self._tokenizer(), speeds=speeds)

    def _global_batch(self) -> int:
        return self._ranks()["world_size"]

    def _limit(self) -> int:
        return round(self.batch_seconds * self.sample_rate)

    def train_dataloader(self) -> DataLoader:
        """Batches of training utterances, in the order of the epoch."""
        samples = self._samples("train")
        epoch, skip = self._begin()
        sampler = LengthSampler(
            len(samples),
            samples.lengths,
            limit=self._limit(),
            seed=self._seed(),
            epoch=epoch,
            skip=skip,
            **self._ranks(),
        )
        return self._loader(TrainLoader, samples, sampler, collate, batch_size=None)

    def val_dataloader(self) -> DataLoader:
        """Batches of all validation utterances, in a fixed order."""
        return self._fixed_loader("val")

    def test_dataloader(self) -> DataLoader:
        """Batches of all test utterances, in a fixed order."""
        return self._fixed_loader("test")

    def _fixed_loader(self, split: Split) -> DataLoader:
        samples = self._samples(split)
        lengths = samples.plain_lengths(np.arange(len(samples)))
        sampler = FixedBatches(lengths, limit=self._limit(), **self._ranks())
        return self._loader(DataLoader, samples, sampler, collate, batch_size=None)

    def predict_files(self, input: Path) -> list[Path]:  # noqa: A002 - the command's own word
        """Lists the recordings to predict.

        Args:
            input: A recording, or a folder that is searched with all below it.

        Raises:
            FileNotFoundError: If there is no such file or folder.
            ValueError: If the folder holds no recording.
        """
        return find_inputs(input, AUDIO_SUFFIXES, kind="recording")

    def predict_loader(self, files: Sequence[Path]) -> DataLoader:
        """Batches of the windows of files, as `AudioWindows` says.

        Args:
            files: The recordings.
        """
        windows = AudioWindows(
            files,
            sample_rate=self.sample_rate,
            window=max(1, round(self.window_seconds * self.sample_rate)),
            overlap=round(self.overlap_seconds * self.sample_rate),
            limit=self._limit(),
        )
        return DataLoader(windows, batch_size=None, num_workers=self.num_workers, collate_fn=as_it_is)

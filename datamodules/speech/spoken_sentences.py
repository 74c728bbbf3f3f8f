"""Sentences spoken by eSpeak NG: speech recognition without a download."""

from typing import Any

from datamodules.base import Split
from datamodules.speech.base import SpeechDataModule
from datamodules.speech.joined import JoinedSamples
from datamodules.speech.recordings import Utterance
from datamodules.speech.samples import SpeechSamples
from datamodules.speech.spoken import make_spoken, read_spoken

_FOLDER = "spoken_sentences"


class SpokenSentences(SpeechDataModule):
    """Sentences of 2 to 8 words by 68 voices of eSpeak NG, in noise and rooms: 6,000 to train, 300 and 500 to evaluate.

    They are made once, in about a minute, as FLAC files and JSON lines in `root/spoken_sentences`; always the same, no
    seed changes them. No speaker and no sentence is in two parts. They need the package `espeakng-loader` (the extra
    `speech`), which is GPL-3.

    Args:
        root: Folder in which they are made; `$ONECORE_DATA` if not given, or else `data`.
        joined_seconds: Sentences are joined, in each part, to recordings of at least so many seconds; single if not
            given.
        only_words: Only the sentences that are made of these words alone are taken; all if not given. Of the digits
            alone are 620, 28 and 61.
        speech: The arguments of `SpeechDataModule`.

    Raises:
        ValueError: If `joined_seconds` is not positive, or no sentence of a part is made of `only_words`.
    """

    package = "espeakng_loader"

    def __init__(
        self,
        *,
        root: str | None = None,
        joined_seconds: float | None = None,
        only_words: list[str] | None = None,
        **speech: Any,
    ) -> None:
        super().__init__(root=root, **speech)
        if joined_seconds is not None and not joined_seconds > 0:
            raise ValueError(f"joined_seconds={joined_seconds} must be positive")
        self.joined_seconds = joined_seconds
        self.only_words = only_words

    def prepare_data(self) -> None:
        """Makes the sentences if they are not there; Lightning calls this in one process only.

        Raises:
            FileNotFoundError: If the package with the voices is missing.
            ValueError: If they cannot be written.
        """
        make_spoken(self.root / _FOLDER)

    def _utterances(self, split: Split) -> list[Utterance]:
        self.prepare_data()
        rows = read_spoken(self.root / _FOLDER, split)
        file = self.root / _FOLDER / f"{split}.jsonl"
        utterances = [
            Utterance(
                row.audio, row.text, f"{file}, line {number}", [(word, start, end) for word, start, end in row.words]
            )
            for number, row in enumerate(rows, 1)
            if self.only_words is None or set(row.text.split()) <= set(self.only_words)
        ]
        if not utterances:
            raise ValueError(f"only_words={self.only_words}: no sentence in {file} is made of these words alone")
        return utterances

    def _samples(self, split: Split) -> SpeechSamples:
        if self.joined_seconds is None:
            return super()._samples(split)
        speeds = self.speeds if split == "train" else ()
        return JoinedSamples(self.recordings(split), self._tokenizer(), seconds=self.joined_seconds, speeds=speeds)

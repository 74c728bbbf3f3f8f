"""LibriSpeech (Panayotov et al. 2015): read books as FLAC files, a list of transcripts for each chapter."""

from pathlib import Path
from typing import Any

from datamodules.base import Split
from datamodules.speech.base import SpeechDataModule
from datamodules.speech.recordings import Utterance


class LibriSpeech(SpeechDataModule):
    """Recordings in LibriSpeech's layout: `<set>/<speaker>/<chapter>/*.flac` with `<speaker>-<chapter>.trans.txt`.

    `root` is the folder of the sets, or one that holds it as `LibriSpeech`.

    Args:
        train_sets: Names of the folders to train on.
        val_sets: Names of the folders to validate on.
        test_sets: Names of the folders to test on.
        speech: The arguments of `SpeechDataModule`.
    """

    found_by = ("*/*/*/*.trans.txt",)

    def __init__(
        self,
        *,
        train_sets: list[str] | None = None,
        val_sets: list[str] | None = None,
        test_sets: list[str] | None = None,
        **speech: Any,
    ) -> None:
        super().__init__(**speech)
        self._sets: dict[Split, list[str]] = {
            "train": train_sets or ["train-clean-100"],
            "val": val_sets or ["dev-clean"],
            "test": test_sets or ["test-clean"],
        }

    def _utterances(self, split: Split) -> list[Utterance]:
        root = self.root / "LibriSpeech" if (self.root / "LibriSpeech").is_dir() else self.root
        return [utterance for name in self._sets[split] for utterance in read_chapters(root / name, split)]


def read_chapters(folder: Path, split: Split) -> list[Utterance]:
    """Lists the utterances of all chapters in a folder and below, by their names.

    Args:
        folder: A set, as `train-clean-100`.
        split: The part it is for.

    Raises:
        FileNotFoundError: If the folder is missing.
        ValueError: If there are no transcripts in it, or they cannot be read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: no such folder; give LibriSpeech's with --data.root, and a set's name with --data.{split}_sets"
        )
    chapters = sorted(folder.rglob("*.trans.txt"))
    if not chapters:
        raise ValueError(f"{folder}: holds no transcripts (<speaker>/<chapter>/*.trans.txt)")
    return [utterance for chapter in chapters for utterance in _read_chapter(chapter)]


def _read_chapter(file: Path) -> list[Utterance]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read ({error})") from None
    utterances = []
    for number, line in enumerate(lines, start=1):
        name, _, text = line.strip().partition(" ")
        if name:
            utterances.append(Utterance(file.parent / f"{name}.flac", text, f"{file}, line {number}"))
    return utterances

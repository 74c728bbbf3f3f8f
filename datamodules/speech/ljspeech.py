"""LJSpeech (Ito and Johnson 2017): one reader, a table of transcripts."""

from pathlib import Path
from typing import Any

import torch

from datamodules.base import Split
from datamodules.speech.base import SpeechDataModule
from datamodules.speech.recordings import Utterance
from datamodules.splits import stratified_split


class LJSpeech(SpeechDataModule):
    """Recordings in LJSpeech's layout: `wavs/*.wav`, and `metadata.csv` with lines `name|transcript|spoken out`.

    The last column is read, in which numbers and abbreviations are spelled as they are spoken. `root` is the folder
    with the table, or one that holds it as `LJSpeech-1.1`. Who is in which part is fixed; no seed changes it.

    Args:
        val_share: Share of the utterances that becomes validation.
        test_share: Share of the utterances that becomes the test.
        speech: The arguments of `SpeechDataModule`.

    Raises:
        ValueError: If a share is not in (0, 1), or they leave nothing to train on.
    """

    found_by = ("metadata.csv",)

    def __init__(self, *, val_share: float = 0.02, test_share: float = 0.04, **speech: Any) -> None:
        super().__init__(**speech)
        if not (0 < val_share < 1 and 0 < test_share < 1 and val_share + test_share < 1):
            raise ValueError(
                f"val_share={val_share} and test_share={test_share} must be positive and less than 1 in all"
            )
        self._shares = [val_share, test_share]

    def _utterances(self, split: Split) -> list[Utterance]:
        root = self.root / "LJSpeech-1.1" if (self.root / "LJSpeech-1.1").is_dir() else self.root
        everything = read_metadata(root / "metadata.csv")
        parts = stratified_split(torch.zeros(len(everything), dtype=torch.long), self._shares)
        chosen = dict(zip(("train", "val", "test"), parts, strict=True))[split]
        return [everything[index] for index in chosen.tolist()]


def read_metadata(file: Path) -> list[Utterance]:
    """Lists the utterances of a table with lines `name|transcript` or `name|transcript|spoken out`.

    Raises:
        FileNotFoundError: If the table is missing.
        ValueError: If it cannot be read, or a line is none of a table.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: no such file; give LJSpeech's folder with --data.root") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read ({error})") from None
    utterances = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, *texts = line.split("|")
        if len(texts) not in (1, 2) or not name.strip():
            raise ValueError(f"{file}, line {number}: must be name|transcript or name|transcript|spoken out")
        utterances.append(Utterance(file.parent / "wavs" / f"{name.strip()}.wav", texts[-1], f"{file}, line {number}"))
    return utterances

"""Recordings that a table lists with their transcripts, as CSV or JSON lines."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_warn

from datamodules.base import Split
from datamodules.speech.base import SpeechDataModule
from datamodules.speech.recordings import Utterance

_JSON_SUFFIXES = frozenset({".jsonl", ".json", ".ndjson"})


class SpeechManifest(SpeechDataModule):
    """Your own recordings: for each part a file that lists them, CSV with a header or an object of JSON in each line.

    A recording's path is absolute or relative to the file that names it.

    Args:
        train: The file of the training part, a path below `root`.
        val: The file of the validation part.
        test: The file of the test part; if not given, the validation part is tested, and a warning says so.
        audio_key: The column, or the key, of the recording's path.
        text_key: The column, or the key, of the transcript.
        speech: The arguments of `SpeechDataModule`.
    """

    def __init__(
        self,
        *,
        train: str = "train.csv",
        val: str = "val.csv",
        test: str | None = None,
        audio_key: str = "audio",
        text_key: str = "text",
        **speech: Any,
    ) -> None:
        super().__init__(**speech)
        self._files: dict[Split, str] = {"train": train, "val": val, "test": test or val}
        self._test_given = test is not None
        self._keys = audio_key, text_key

    def _utterances(self, split: Split) -> list[Utterance]:
        if split == "test" and not self._test_given:
            rank_zero_warn("data.test names no file; the validation part is tested")
        file = self.root / self._files[split]
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; name the list of recordings with --data.{split}")
        return read_manifest(file, *self._keys)


def read_manifest(file: Path, audio_key: str = "audio", text_key: str = "text") -> list[Utterance]:
    """Lists the utterances of a file.

    Args:
        file: JSON lines, if its name ends with .jsonl, .ndjson or .json, or else CSV.
        audio_key: The column, or the key, of the recording's path.
        text_key: The column, or the key, of the transcript.

    Raises:
        ValueError: If it cannot be read, or a row lacks a value; one line with the row.
    """
    try:
        rows = list(_json_rows(file) if file.suffix.lower() in _JSON_SUFFIXES else _csv_rows(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file}: cannot be read ({error})") from None
    utterances = []
    for number, row in rows:
        where = f"{file}, line {number}"
        for key in (audio_key, text_key):
            if not isinstance(row.get(key), str):
                names = ", ".join(str(name) for name in row if name is not None)
                raise ValueError(
                    f"{where}: lacks {key!r}, but has {names or 'nothing'}; see --data.audio_key, text_key"
                )
        if not row[audio_key].strip():
            raise ValueError(f"{where}: {audio_key!r} is empty, but must name a recording")
        utterances.append(Utterance(file.parent / row[audio_key].strip(), row[text_key], where))
    return utterances


def _csv_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.DictReader(lines, strict=True)
        for row in rows:
            if None in row:
                raise ValueError(
                    f"{file}, line {rows.line_num}: has more values than the header; put a text with commas in quotes"
                )
            yield rows.line_num, row


def _json_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{file}, line {number}: is no JSON ({error})") from None
            if not isinstance(row, dict):
                raise ValueError(f"{file}, line {number}: must be an object with the recording's path and transcript")
            yield number, row

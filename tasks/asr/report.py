"""What recognition leaves behind: for each file its text, its words with times, and subtitles."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tasks.asr.alignment import Word
from tasks.asr.joining import Window, join_windows
from tasks.run import output_names, write_anew

LONGEST_CUE = 6.0
"""Seconds that a subtitle stands at most."""
WIDEST_CUE = 80
"""Letters that a subtitle has at most: two lines."""
PAUSE = 0.8
"""Seconds of silence that end a subtitle."""


def save_predictions(batches: Sequence[dict[str, Any]], names: Sequence[str], folder: Path) -> Path:
    """Writes, for each file, its text (`.txt`), its words (`.json`), and subtitles (`.srt`, `.vtt`).

    `.json` has `file`, `text`, and `words`, each with `word`, `start`, `end` (seconds from the start of the file) and
    `confidence`, null where a word's time is not known but spread over its window. Files of an earlier prediction are
    kept under another name.

    Args:
        batches: Of each batch the `index` of its windows' files among `names`, and `windows`, what was heard in each.
        names: Path of each file.
        folder: Where to write.

    Returns:
        The folder.
    """
    windows: dict[int, list[Window]] = defaultdict(list)
    for batch in batches:
        for index, window in zip(batch["index"].tolist(), batch["windows"], strict=True):
            windows[index].append(window)
    outputs = output_names(names)
    for index, heard in sorted(windows.items()):
        words = join_windows(sorted(heard, key=lambda window: window.start))
        save_words(words, names[index], folder / outputs[index])
    return folder


def save_words(words: Sequence[Word], name: str, path: Path) -> None:
    """Writes one file's words.

    Args:
        words: In order, in seconds from the start of the file.
        name: The file.
        path: Where to write, without suffix; its folder is made.
    """
    text = " ".join(word.text for word in words)
    records = [
        {
            "word": word.text,
            "start": round(word.start, 3),
            "end": round(word.end, 3),
            "confidence": None if word.confidence is None else round(word.confidence, 4),
        }
        for word in words
    ]
    document = {"file": name, "text": text, "words": records}
    contents = {
        ".txt": text + "\n" if text else "",
        ".json": json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        ".srt": subtitles(words),
        ".vtt": "WEBVTT\n" + "".join(f"\n{cue}" for cue in _cues(words, ".")),
    }
    for suffix, content in contents.items():
        write_anew(path.with_name(path.name + suffix), content)


def subtitles(words: Sequence[Word]) -> str:
    """SubRip: numbered cues.

    >>> print(subtitles([Word("one", 0.0, 0.4, 1.0), Word("two", 3600.5, 3601.0, 1.0)]), end="")
    1
    00:00:00,000 --> 00:00:00,400
    one
    <BLANKLINE>
    2
    01:00:00,500 --> 01:00:01,000
    two
    """
    return "\n".join(f"{number}\n{cue}" for number, cue in enumerate(_cues(words, ","), 1))


def _cues(words: Iterable[Word], point: str) -> list[str]:
    """A line of times and a line of text for each subtitle."""
    return [
        f"{_clock(cue[0].start, point)} --> {_clock(cue[-1].end, point)}\n{' '.join(word.text for word in cue)}\n"
        for cue in group_cues(words)
    ]


def group_cues(words: Iterable[Word]) -> list[list[Word]]:
    """Words that are shown together: until a pause, and no more than can be read at once."""
    cues: list[list[Word]] = []
    for word in words:
        cue = cues[-1] if cues else []
        if (
            not cue
            or word.start - cue[-1].end > PAUSE
            or word.end - cue[0].start > LONGEST_CUE
            or sum(len(each.text) + 1 for each in cue) + len(word.text) > WIDEST_CUE
        ):
            cues.append([])
        cues[-1].append(word)
    return cues


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"

"""What prediction writes, and how the windows of a long file are joined."""

import json
import re

import pytest
import torch

from tasks.asr.alignment import Word
from tasks.asr.joining import Window, join_windows
from tasks.asr.report import group_cues, save_predictions, subtitles

SPOKEN = [Word(f"w{number}", number * 0.7, number * 0.7 + 0.45, 0.9) for number in range(60)]
"""A long file: a word every 0.7 seconds."""


def window(start, end, words):
    """What a window hears: words that it holds whole, and what is left of those at its edges."""
    heard = []
    for word in words:
        inside = max(word.start, start), min(word.end, end)
        if inside[0] < inside[1]:
            whole = inside == (word.start, word.end)
            heard.append(Word(word.text if whole else word.text[:1], *inside, word.confidence))
    return Window(start, end, heard)


@pytest.mark.parametrize("offset", [0.0, 0.1, 0.3, 0.5])
def test_windows_join_to_what_was_said(offset):
    starts = [number * 8.0 + (offset if number else 0.0) for number in range(5)]
    windows = [window(start, start + 10.0, SPOKEN) for start in starts]
    assert join_windows(windows) == [word for word in SPOKEN if word.start < windows[-1].end][: len(SPOKEN)]


def test_a_cut_avoids_words():
    """The middle of the overlap, 9.0, lies in a word that both windows hear, each a little elsewhere."""
    first = Window(0.0, 10.0, [Word("a", 8.0, 8.4, 1.0), Word("b", 8.7, 9.1, 1.0), Word("c", 9.6, 9.9, 1.0)])
    second = Window(8.0, 18.0, [Word("b", 8.8, 9.4, 1.0), Word("c", 9.6, 9.95, 1.0), Word("d", 11.0, 12.0, 1.0)])
    assert [word.text for word in join_windows([first, second])] == ["a", "b", "c", "d"]


def test_windows_without_overlap_are_put_behind_each_other():
    first, second = Window(0.0, 2.0, [Word("a", 0.0, 2.0, None)]), Window(2.0, 3.0, [Word("b", 2.0, 3.0, None)])
    assert [word.text for word in join_windows([first, second])] == ["a", "b"]
    assert join_windows([]) == []


def batches(*windows):
    return [{"index": torch.tensor([index]), "windows": [each]} for index, each in windows]


def test_every_file_gets_text_words_and_subtitles(tmp_path):
    heard = batches(
        (0, Window(0.0, 4.0, [Word("zwölf", 0.5, 1.0, 0.98765), Word("left", 3.5, 3.9, 0.5)])),
        (1, Window(0.0, 1.0, [])),
        (0, Window(3.0, 7.0, [Word("left", 3.5, 3.9, 0.6), Word("up", 6.0, 6.4, None)])),
    )
    names = [str(tmp_path / "in" / name) for name in ("a/1.wav", "b/1.flac", "c.wav")]
    assert save_predictions(heard, names, tmp_path / "out") == tmp_path / "out"
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert written == {f"{name}{suffix}" for name in ("a/1", "b/1") for suffix in (".txt", ".json", ".srt", ".vtt")}
    read = {suffix: (tmp_path / "out" / f"a/1{suffix}").read_text("utf-8") for suffix in (".txt", ".srt", ".vtt")}
    assert read[".txt"] == "zwölf left up\n"
    assert read[".vtt"].startswith("WEBVTT\n\n00:00:00.500 --> 00:00:01.000\nzwölf\n\n00:00:03.500")
    assert read[".srt"].splitlines()[:3] == ["1", "00:00:00,500 --> 00:00:01,000", "zwölf"]
    document = json.loads((tmp_path / "out/a/1.json").read_text("utf-8"))
    assert document["text"] == "zwölf left up"
    assert document["words"][0] == {"word": "zwölf", "start": 0.5, "end": 1.0, "confidence": 0.9877}
    assert document["words"][2]["confidence"] is None
    assert (tmp_path / "out/b/1.txt").read_text() == ""
    assert (tmp_path / "out/b/1.srt").read_text() == ""
    assert (tmp_path / "out/b/1.vtt").read_text() == "WEBVTT\n"
    assert json.loads((tmp_path / "out/b/1.json").read_text())["words"] == []


def test_an_earlier_prediction_is_kept(tmp_path):
    for text in ("old", "new"):
        save_predictions(batches((0, Window(0.0, 1.0, [Word(text, 0.0, 1.0, 1.0)]))), ["x.wav"], tmp_path)
    assert sorted(path.read_text() for path in tmp_path.glob("*.txt")) == ["new\n", "old\n"]
    assert (tmp_path / "x.txt").read_text() == "new\n"


def test_subtitles_end_at_a_pause_and_before_they_are_too_long():
    cues = group_cues(SPOKEN)
    assert [word for cue in cues for word in cue] == SPOKEN
    assert all(cue[-1].end - cue[0].start <= 6.0 for cue in cues)
    assert len(group_cues([Word("a", 0.0, 0.5, 1.0), Word("b", 1.4, 1.5, 1.0), Word("c", 1.6, 1.7, 1.0)])) == 2
    assert [len(cue) for cue in group_cues([Word("x" * 30, n * 0.1, n * 0.1 + 0.1, 1.0) for n in range(5)])] == [
        2,
        2,
        1,
    ]
    assert len(group_cues([Word("x" * 200, 0.0, 99.0, 1.0)])) == 1
    assert len(re.findall(r"^\d+$", subtitles(SPOKEN), re.MULTILINE)) == len(cues)

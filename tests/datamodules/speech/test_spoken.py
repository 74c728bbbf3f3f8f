import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from datamodules.speech import espeak, spoken
from datamodules.speech.spoken import NUM_SENTENCES, SAMPLE_RATE, make_spoken, read_spoken, speak_sentence

COUNTS = {"train": 24, "val": 6, "test": 12}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spoken") / "spoken_sentences"
    make_spoken(folder, counts=COUNTS)
    return folder


def files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_real_numbers():
    assert NUM_SENTENCES == {"train": 6000, "val": 300, "test": 500}


def test_deterministic_to_the_byte_and_independent_of_the_number(made, tmp_path):
    make_spoken(tmp_path / "again", counts=COUNTS)
    assert files(tmp_path / "again") == files(made)
    make_spoken(tmp_path / "fewer", counts={"train": 3, "val": 2, "test": 1})
    for path, content in files(tmp_path / "fewer").items():
        if path.suffix == ".flac":
            assert content == (made / path).read_bytes()
    make_spoken(tmp_path / "other", counts={"train": 1, "val": 1, "test": 1}, seed=1)
    for split in COUNTS:
        assert (tmp_path / "other" / split / "00000.flac").read_bytes() != (made / split / "00000.flac").read_bytes()


def test_several_processes_make_the_same(made, tmp_path, monkeypatch):
    monkeypatch.setattr(spoken, "_MANY", 10)
    make_spoken(tmp_path / "many", counts=COUNTS)
    assert files(tmp_path / "many") == files(made)


def test_any_order_gives_the_same():
    keys = [(part, number) for part in COUNTS for number in range(5)]
    forwards = {key: speak_sentence(*key) for key in keys}
    for key in reversed(keys):
        audio, row = speak_sentence(*key)
        assert np.array_equal(audio, forwards[key][0])
        assert row == forwards[key][1]


@pytest.mark.parametrize("split", COUNTS)
def test_files_and_rows(made, split):
    rows = read_spoken(made, split)
    assert len(rows) == COUNTS[split]
    assert sorted(row.audio for row in rows) == sorted((made / split).iterdir())
    for row in rows:
        information = soundfile.info(row.audio)
        assert (information.samplerate, information.channels, information.subtype) == (SAMPLE_RATE, 1, "PCM_16")
        audio, _ = soundfile.read(row.audio, dtype="float32")
        assert -12.01 < 20 * np.log10(np.abs(audio).max()) < -2.99
        assert [word.text for word in row.words] == row.text.split()
        assert 0.05 <= row.words[0].start <= 0.3
        assert 0.0499 <= len(audio) / SAMPLE_RATE - row.words[-1].end <= 0.301
        assert all(word.start < word.end for word in row.words)
        assert all(one.end <= other.start + 1e-4 for one, other in zip(row.words, row.words[1:], strict=False))
        assert 10 <= row.snr <= 30
        assert 0.1 <= row.t60 <= 0.6


def test_a_row_is_what_a_manifest_reads(made):
    row = json.loads((made / "test.jsonl").read_text().splitlines()[0])
    assert list(row)[:2] == ["audio", "text"]
    assert (made / row["audio"]).is_file()
    assert {"words", "voice", "rate", "pitch", "snr"} <= set(row)


def test_the_first_word_begins_where_it_is_heard(made):
    """Room, noise and silence do not shift it: what comes before it is quiet, and it is not."""
    rows = [row for row in read_spoken(made, "train") if row.snr > 15]
    errors = []
    for row in rows:
        audio, _ = soundfile.read(row.audio)
        frames = np.square(audio[: len(audio) // 160 * 160]).reshape(-1, 160).mean(1)
        quiet = frames[: int(row.words[0].start * 100) - 1].mean()
        loud = frames > 4 * quiet
        errors.append(int(np.argmax(loud)) / 100 - row.words[0].start)
    assert len(rows) > 8
    assert np.mean(np.abs(errors) < 0.05) > 0.8
    assert np.abs(np.median(errors)) < 0.02


def test_what_is_there_is_used_and_not_made_again(made):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    make_spoken(made, counts=COUNTS)
    assert before == {path: path.stat().st_mtime_ns for path in made.rglob("*")}


def test_an_interrupted_making_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(part, number, *, seed):
        if part == "val":
            raise KeyboardInterrupt
        return real(part, number, seed=seed)

    real = spoken.speak_sentence
    monkeypatch.setattr(spoken, "speak_sentence", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_spoken(tmp_path / "set", counts={"train": 2, "val": 1, "test": 1})
    assert not list(tmp_path.iterdir())


def test_another_process_that_was_faster_wins(made, tmp_path, monkeypatch):
    monkeypatch.setattr(spoken, "_write", lambda folder, *_: (folder.mkdir(), shutil.copytree(made, tmp_path / "set")))
    make_spoken(tmp_path / "set", counts=COUNTS)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert files(tmp_path / "set") == files(made)


def test_a_folder_that_is_no_whole_set_is_left_alone(tmp_path):
    (tmp_path / "set" / "train").mkdir(parents=True)
    with pytest.raises(ValueError, match="is not a whole set of spoken sentences; remove it, and it is made anew"):
        make_spoken(tmp_path / "set", counts=COUNTS)
    assert list((tmp_path / "set").iterdir()) == [tmp_path / "set" / "train"]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot be written there \(Not a directory\).* --data\.root") as caught:
        make_spoken(tmp_path / "file" / "below" / "set", counts=COUNTS)
    assert "\n" not in str(caught.value)


def test_without_the_package_nothing_is_written(tmp_path, monkeypatch):
    def missing():
        raise FileNotFoundError("espeakng-loader is missing")

    monkeypatch.setattr(espeak, "list_accents", missing)
    with pytest.raises(FileNotFoundError, match="espeakng-loader"):
        make_spoken(tmp_path / "set", counts=COUNTS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "line", ["{", "[]", "{}", '{"audio": "x", "words": [[1]]}', '{"audio": "x", "words": [], "a": 1}']
)
def test_a_damaged_list(line, made, tmp_path):
    good = (made / "val.jsonl").read_text().splitlines()[0]
    (tmp_path / "val.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(ValueError, match=r"val\.jsonl: line 2 is damaged; remove the folder, and the set is made anew"):
        read_spoken(tmp_path, "val")


def test_a_missing_list(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"val\.jsonl: no such file"):
        read_spoken(tmp_path, "val")

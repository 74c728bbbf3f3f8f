import csv
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules import LibriSpeech, LJSpeech, SpeechManifest
from datamodules.speech.manifest import read_manifest
from tests.datamodules.speech.sets import noise, write


def write_libri(root, sets=("train-clean-100", "dev-clean", "test-clean")):
    for number, name in enumerate(sets):
        for chapter in (7, 8):
            folder = root / name / "19" / str(chapter)
            lines = []
            for index in range(2):
                write(folder / f"19-{chapter}-{index:04}.flac", noise(0.3 + 0.1 * index + 0.01 * number))
                lines.append(f"19-{chapter}-{index:04} HE SAID {'SO' if index else 'NO'}")
            (folder / f"19-{chapter}.trans.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("below", ["", "LibriSpeech"])
def test_librispeech(tmp_path, below):
    write_libri(tmp_path / below)
    data = LibriSpeech(root=str(tmp_path), sample_rate=8000)
    assert data.vocabulary == list(" adehinos")
    for part, loader in (("train-clean-100", data.train_dataloader()), ("dev-clean", data.val_dataloader())):
        pairs = {pair for batch in loader for pair in zip(batch["name"], batch["text"], strict=True)}
        folder = tmp_path / below / part / "19"
        assert pairs == {
            (str(folder / f"{chapter}/19-{chapter}-000{index}.flac"), f"he said {'so' if index else 'no'}")
            for chapter in (7, 8)
            for index in range(2)
        }
    both = LibriSpeech(root=str(tmp_path), train_sets=["train-clean-100", "dev-clean"])
    assert len(both.recordings("train")) == 8


def test_what_is_missing_from_librispeech(tmp_path):
    data = LibriSpeech(root=str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"train-clean-100: no such folder; .* --data\.root.* --data\.train_sets"
    ):
        data.setup("fit")
    (tmp_path / "train-clean-100").mkdir()
    with pytest.raises(ValueError, match=r"train-clean-100: holds no transcripts"):
        data.setup("fit")
    write_libri(tmp_path)
    (tmp_path / "dev-clean/19/8/19-8-0001.flac").unlink()
    with pytest.raises(FileNotFoundError, match=r"19-8\.trans\.txt, line 2: .*19-8-0001\.flac: no such file$"):
        data.setup("fit")
    (tmp_path / "test-clean/19/8/19-8.trans.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"19-8\.trans\.txt: cannot be read"):
        data.setup("test")


def write_lj(root, count=50):
    rows = [f"LJ001-{number:04}|Nr. {number}|number {number}" for number in range(count)]
    for row in rows:
        write(root / "wavs" / f"{row[:10]}.wav", noise(0.2))
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.mark.parametrize("below", ["", "LJSpeech-1.1"])
def test_ljspeech(tmp_path, below):
    write_lj(tmp_path / below)
    data = LJSpeech(root=str(tmp_path), val_share=0.1, test_share=0.2, seed=7)
    parts = {part: data.recordings(part) for part in ("train", "val", "test")}
    assert [len(part) for part in parts.values()] == [35, 5, 10]
    texts = [text for part in parts.values() for text in part.texts]
    assert set(texts) == {f"number {number}" for number in range(50)}
    again = LJSpeech(root=str(tmp_path), val_share=0.1, test_share=0.2, seed=8)
    assert again.recordings("test").texts == parts["test"].texts


def test_what_is_wrong_with_ljspeech(tmp_path):
    data = LJSpeech(root=str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"metadata\.csv: no such file; give LJSpeech's folder with --data\.root"
    ):
        data.setup("fit")
    (tmp_path / "metadata.csv").write_text("a|b|c\n\nLJ1\n")
    with pytest.raises(ValueError, match=r"metadata\.csv, line 3: must be name\|transcript"):
        data.setup("fit")
    for shares in ({"val_share": 0.0}, {"val_share": 0.5, "test_share": 0.5}):
        with pytest.raises(ValueError, match=r"val_share=.* and test_share=.* must be positive"):
            LJSpeech(**shares)


def test_manifests_as_csv(tmp_path):
    write(tmp_path / "lists" / "a b.wav", noise(0.3))
    other = write(tmp_path / "other" / "c.wav", noise(0.3))
    rows = [["id", "text", "audio"], ["1", "Yes, I\nsaid", "a b.wav"], ["2", 'a "b"', str(other)]]
    with (tmp_path / "lists" / "train.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows(rows)
    utterances = read_manifest(tmp_path / "lists" / "train.csv")
    assert [utterance.path for utterance in utterances] == [tmp_path / "lists" / "a b.wav", other]
    assert [utterance.text for utterance in utterances] == ["Yes, I\nsaid", 'a "b"']
    data = SpeechManifest(root=str(tmp_path), train="lists/train.csv", val="lists/train.csv")
    assert data.recordings("train").texts == ["yes i said", "a b"]
    with pytest.warns(UserWarning, match="the validation part is tested"):
        assert len(data.recordings("test")) == 2


def test_keys_of_a_manifest(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"audio_filepath": "a.wav", "text": "b", "duration": 2}))
    (utterance,) = read_manifest(file, "audio_filepath")
    assert utterance == (tmp_path / "a.wav", "b", f"{file}, line 1", None)
    with pytest.raises(
        ValueError, match=r"a\.jsonl, line 1: lacks 'audio', but has audio_filepath, text, duration; see"
    ):
        read_manifest(file)


DEFECTS = [
    ("a.csv", "audio,text\na.wav\n", r"a\.csv, line 2: lacks 'text'"),
    ("a.csv", "audio,text\na.wav,b,c\n", r"a\.csv, line 2: has more values than the header; put a text with commas"),
    ("a.csv", 'audio,text\na.wav,"b', r"a\.csv: cannot be read \(unexpected end of data\)"),
    ("a.csv", "audio,text\n,b\n", r"a\.csv, line 2: 'audio' is empty"),
    ("a.csv", "path;text\na;b\n", r"a\.csv, line 2: lacks 'audio', but has path;text"),
    ("a.jsonl", '{"audio": "a.wav"}', r"a\.jsonl, line 1: lacks 'text', but has audio"),
    ("a.jsonl", '\n{"audio": "a.wav", "text": 3}', r"a\.jsonl, line 2: lacks 'text'"),
    ("a.jsonl", '{"audio"', r"a\.jsonl, line 1: is no JSON"),
    ("a.jsonl", "[1]", r"a\.jsonl, line 1: must be an object"),
    ("a.csv", b"audio,text\n\xff,b\n", r"a\.csv: cannot be read"),
]


@pytest.mark.parametrize(("name", "content", "message"), DEFECTS)
def test_a_defect_gets_one_line_with_its_row(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as caught:
        read_manifest(tmp_path / name)
    assert "\n" not in str(caught.value)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["a.csv", "a.jsonl"]),
    st.one_of(st.binary(max_size=60), st.text('{}[]",:\naudiotext\0 \r', max_size=60)),
)
def test_any_content_is_read_or_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        message = str(tmp_path / name)
        read_manifest(tmp_path / name)
    except ValueError as error:
        message = str(error)
    assert message.startswith(str(tmp_path / name))
    assert "\n" not in message
    assert "\r" not in message


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"train\.csv: no such file; name the list of recordings with --data\.train"
    ):
        SpeechManifest(root=str(tmp_path)).setup("fit")

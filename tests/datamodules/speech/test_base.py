import json
import os
import pickle

import numpy as np
import pytest
import soundfile
import torch

from datamodules import SpeechManifest
from datamodules.seeded import mix
from datamodules.speech.reading import read_audio, resample
from datamodules.speech.recordings import Recordings, Utterance
from datamodules.speech.text import TextNormalizer
from tests.datamodules.speech.sets import RATE, noise, write, write_manifest


def make(root, **arguments):
    files = {part: f"{part}.jsonl" for part in ("train", "val", "test")}
    return SpeechManifest(root=str(root), **{"sample_rate": RATE, "batch_seconds": 8, "seed": 3, **files, **arguments})


@pytest.fixture
def own(tmp_path):
    parts = {
        "train": [(0.5, "A b"), (0.7, "b c"), (0.9, "Ab, c!")],
        "val": [(0.4, "xa"), (0.6, "b")],
        "test": [(0.5, "a")],
    }
    return write_manifest(tmp_path, parts)


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_batch_keeps_the_contract(manifest, part):
    data = make(manifest)
    batches = list(getattr(data, f"{part}_dataloader")())
    texts = {json.loads(line)["text"] for line in (manifest / f"{part}.jsonl").read_text().splitlines()}
    assert sum(len(batch["name"]) for batch in batches) == {"train": 24, "val": 7, "test": 5}[part]
    for batch in batches:
        assert set(batch) == {"audio", "audio_lengths", "tokens", "token_lengths", "text", "name"}
        assert [batch[name].dtype for name in ("audio", "audio_lengths", "tokens", "token_lengths")] == [
            torch.float32, torch.int64, torch.int64, torch.int64
        ]  # fmt: skip
        assert batch["audio"].numel() <= 8 * RATE
        for row, name in enumerate(batch["name"]):
            audio = batch["audio"][row]
            length = batch["audio_lengths"][row]
            assert torch.equal(audio[:length], read_audio(name, RATE))
            assert not audio[length:].any()
            tokens = batch["tokens"][row]
            count = batch["token_lengths"][row]
            assert "".join(data.vocabulary[token] for token in tokens[:count]) == batch["text"][row]
            assert not tokens[count:].any()
            assert batch["text"][row] in texts


def test_facts_are_plain_and_need_no_audio(own):
    for file in own.rglob("*.wav"):
        file.unlink()
    data = make(own)
    expected = {
        "vocabulary": [" ", "a", "b", "c"],
        "vocab_size": 4,
        "sample_rate": RATE,
        "normalization": {"case": "lower", "punctuation": "dropped", "apostrophes": "kept"},
        "tokenizer": {"kind": "characters"},
    }
    assert data.facts == expected == json.loads(json.dumps(expected))
    assert {name: getattr(data, name) for name in expected} == expected


def test_restored_facts_decide(own, tmp_path):
    trained = make(own, normalization=TextNormalizer(case="upper"), num_subwords=6, sample_rate=4000).facts
    data = make(own)
    with pytest.warns(UserWarning, match="characters of the val part"):
        list(data.val_dataloader())
    data.restore_facts(trained)
    with pytest.warns(UserWarning, match="characters of the val part"):
        batches = list(data.val_dataloader())
    assert sorted(text for batch in batches for text in batch["text"]) == ["B", "XA"]
    assert sum(batch["audio_lengths"].sum() for batch in batches) == 4000
    assert data.vocabulary == trained["vocabulary"]
    nothing = make(tmp_path / "nothing")
    nothing.restore_facts(trained)
    assert nothing.sample_rate == 4000
    with pytest.raises(ValueError, match="facts lack vocabulary, normalization, tokenizer: they are not those"):
        data.restore_facts({"sample_rate": 1, "vocab_size": 2})


def test_characters_that_training_lacks(own):
    with pytest.warns(UserWarning, match=r"1 characters of the val part are none of the .* left out .*: 'x' \(1\)$"):
        batches = list(make(own).val_dataloader())
    texts = {text: tokens[:length].tolist() for batch in batches for text, tokens, length in zip(
        batch["text"], batch["tokens"], batch["token_lengths"], strict=True)}  # fmt: skip
    assert texts == {"xa": [1], "b": [2]}


def test_training_leaves_out_the_too_long_and_the_too_short(own, recwarn):
    with (own / "train.jsonl").open("a") as file:
        for name, seconds in (("0", 0), ("1", 0.02), ("9", 9)):
            write(own / f"long{name}.wav", np.zeros(int(seconds * RATE)))
            file.write(f'\n{{"audio": "long{name}.wav", "text": "a"}}')
    data = make(own, max_seconds=5)
    assert len(data.recordings("train")) == 3
    (warning,) = [str(warning.message) for warning in recwarn if "left out" in str(warning.message)]
    assert "3 of 6 training utterances" in warning
    assert "train.jsonl, line 4 (0.00 s), ..." in warning
    evaluated = make(own, val="train.jsonl", max_seconds=5)
    assert len(evaluated.recordings("val")) == 6
    assert sum(len(batch["text"]) for batch in evaluated.val_dataloader()) == 6
    with pytest.raises(ValueError, match=r"6 of 6 training utterances .* max_seconds=0\.1"):
        make(own, max_seconds=0.1).recordings("train")


def test_bad_recordings_are_named_before_training(own):
    (own / "train" / "1.wav").unlink()
    (own / "train" / "2.wav").write_text("no audio")
    with pytest.raises(FileNotFoundError, match=r"train\.jsonl, line 2: .*1\.wav: no such file; and 1 more of 3$"):
        make(own).setup("fit")
    (own / "train" / "0.wav").write_text("no audio")
    with pytest.raises(ValueError, match=r"train\.jsonl, line 1: .*0\.wav: is not readable audio .*; and 2 more of 3$"):
        make(own).setup("fit")


def test_damage_is_named_with_its_row(own):
    file = write(own / "train" / "1.flac", noise(3.0))
    file.write_bytes(file.read_bytes()[:9000])
    lines = (own / "train.jsonl").read_text().replace("train/1.wav", "train/1.flac")
    (own / "train.jsonl").write_text(lines)
    with pytest.raises(ValueError, match=r"train\.jsonl, line 2: .*1\.flac: is truncated or damaged"):
        list(make(own).train_dataloader())


def test_nothing_to_learn(own):
    (own / "val.jsonl").write_text("")
    with pytest.raises(ValueError, match="the val part has no utterance"):
        make(own).setup("validate")
    (own / "train.jsonl").write_text('{"audio": "train/0.wav", "text": "..."}')
    with pytest.raises(ValueError, match="the training part has no text"):
        _ = make(own).facts


ARGUMENTS = [
    ({"batch_seconds": 0}, "batch_seconds=0 must be positive"),
    ({"max_seconds": -1}, "max_seconds=-1 must be positive"),
    ({"window_seconds": float("nan")}, "window_seconds=nan must be positive"),
    ({"overlap_seconds": 30}, r"overlap_seconds=30 must be in \[0, window_seconds=30\.0\)"),
    ({"sample_rate": 16}, "sample_rate=16 must be 1000 Hz"),
    ({"speeds": [1, 3]}, r"speeds=\[1, 3\] must be between"),
    ({"cache_bytes": -1}, "cache_bytes=-1 must not"),
    ({"num_subwords": 0}, "num_subwords=0 must be positive"),
    ({"num_subwords": 9, "tokenizer_file": "t.json"}, r"num_subwords=9 and tokenizer_file=t\.json: give one"),
]


@pytest.mark.parametrize(("arguments", "message"), ARGUMENTS)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        make("nowhere", **arguments)


def test_speeds_are_drawn_in_training_only(manifest):
    data = make(manifest, speeds=[0.8, 1.25])
    seen = {}
    for epoch in range(6):
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        planned = data._samples("train").lengths(mix(3, epoch, np.arange(24)))
        names = [str(utterance.path) for utterance in data.recordings("train").utterances]
        for batch in loader:
            for row, name in enumerate(batch["name"]):
                length = int(batch["audio_lengths"][row])
                assert length == planned[names.index(name)]
                seen.setdefault(name, {})[length] = batch["audio"][row, :length]
    for name, variants in seen.items():
        plain = read_audio(name, RATE)
        assert set(variants) <= {-(-len(plain) * 5 // 4), -(-len(plain) * 4 // 5)}
        for length, audio in variants.items():
            speed = data.speeds[length < len(plain)]
            assert torch.equal(audio, resample(plain, speed).clamp(-1, 1))
    assert 2 in {len(variants) for variants in seen.values()}
    total = sum(int(batch["audio_lengths"].sum()) for batch in data.val_dataloader())
    assert total == data.recordings("val").lengths.sum()


def recordings(root, **cache):
    paths = sorted((root / "train").glob("*.wav"))
    return Recordings([Utterance(path, "a", "here") for path in paths], ["a"] * len(paths), sample_rate=RATE, **cache)


def test_memory_keeps_what_fits(own, monkeypatch):
    lengths = recordings(own).lengths
    kept = recordings(own, cache_bytes=2 * int(lengths[:2].sum()))
    first = [kept.read(index) for index in range(3)]
    read = []
    monkeypatch.setattr("datamodules.speech.recordings.read_audio", lambda path, _: read.append(path) or first[2])
    assert all(torch.equal(kept.read(index), first[index]) for index in range(3))
    assert [path.name for path in read] == ["2.wav"]
    again = pickle.loads(pickle.dumps(kept))
    assert torch.equal(again.read(2), first[2])


def test_kept_audio_is_the_same_to_the_bit(tmp_path):
    write(tmp_path / "train" / "a.wav", noise(1.0, rate=22050), 22050, subtype="PCM_24")
    plain = recordings(tmp_path)
    kept = recordings(tmp_path, cache_bytes=10**6, cache_dir=tmp_path / "cache")
    other = recordings(tmp_path, cache_dir=tmp_path / "cache")
    assert torch.equal(plain.read(0), kept.read(0))
    assert torch.equal(kept.read(0), plain.read(0))
    assert torch.equal(other.read(0), plain.read(0))
    torch.testing.assert_close(
        plain.read(0), read_audio(tmp_path / "train" / "a.wav", RATE), atol=1.01 * 2**-16, rtol=0
    )


def test_the_folder_keeps_audio_until_the_file_changes(own, monkeypatch):
    folder = own / "a" / "cache"
    first = recordings(own, cache_dir=folder).read(0)
    files = sorted(folder.iterdir())
    assert len(files) == 1
    with monkeypatch.context() as patch:
        patch.setattr("datamodules.speech.recordings.read_audio", None)
        assert torch.equal(recordings(own, cache_dir=folder).read(0), first)
    files[0].write_bytes(files[0].read_bytes()[:50])
    assert torch.equal(recordings(own, cache_dir=folder).read(0), first), "a damaged one is made anew"
    write(own / "train" / "0.wav", noise(0.5, seed=99))
    os.utime(own / "train" / "0.wav", ns=(1, 1))
    assert not torch.equal(recordings(own, cache_dir=folder).read(0), first)
    other_rate = Recordings(
        [Utterance(own / "train" / "0.wav", "a", "here")], ["a"], sample_rate=4000, cache_dir=folder
    )
    assert len(other_rate.read(0)) == 2000
    assert len(list(folder.iterdir())) == 3


def test_a_folder_that_cannot_be_written_is_named(own):
    (own / "file").write_text("")
    with pytest.raises(
        ValueError, match=r"cache_dir=.*file/cache: cannot be written .*; give another folder, or none$"
    ):
        recordings(own, cache_dir=own / "file" / "cache").read(0)


def test_validation_is_the_same_in_every_epoch(manifest):
    data = make(manifest)
    one, other = ([batch["name"] for batch in data.val_dataloader()] for _ in range(2))
    assert one == other
    lengths = [soundfile.info(names[0]).frames for names in one]
    assert lengths == sorted(lengths, reverse=True)

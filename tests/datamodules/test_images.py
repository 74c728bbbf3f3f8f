import random

import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as v2
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonargparse import ArgumentParser
from torch import nn

from datamodules import MNIST, DataModule, ImageFolder
from datamodules.pictures import Normalize, fit, shown_part
from datamodules.reading import read_size

FACTS = {
    "class_names": ["cat", "dog"],
    "num_classes": 2,
    "image_size": [6, 8],
    "num_channels": 3,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
}


class RandomShift(nn.Module):
    """Draws from Python's own random numbers."""

    def forward(self, picture):
        return picture.roll(random.randrange(8), -1)


def batches(data, epoch=0):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


@pytest.mark.parametrize("epoch", [0, 1])
def test_workers_change_nothing(animals, epoch):
    augment = [v2.RandomAffine(20), v2.RandAugment(), RandomShift()]
    erase = [v2.RandomErasing(p=0.5, value="random")]
    made = []
    for workers in (0, 2):
        torch.manual_seed(workers)
        random.seed(workers)
        data = ImageFolder(
            root=str(animals), batch_size=8, num_workers=workers, augment=augment, augment_normalized=erase
        )
        data.setup("fit")
        state = torch.get_rng_state()
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        made.append(list(loader))
        assert torch.equal(torch.get_rng_state(), state), "loading drew from the model's random numbers"
    assert len(made[0]) == len(made[1]) == 5
    for one, two in zip(*made, strict=True):
        assert torch.equal(one["image"], two["image"])
        assert torch.equal(one["label"], two["label"])


def test_augmentation_changes_with_the_epoch(animals):
    data = ImageFolder(root=str(animals), batch_size=43, augment=[v2.RandomAffine(20)])
    first, again, second = batches(data), batches(data), batches(data, epoch=1)
    assert torch.equal(first[0]["image"], again[0]["image"])
    assert not torch.equal(first[0]["image"].sort(0).values, second[0]["image"].sort(0).values)


def test_batches(animals):
    data = ImageFolder(root=str(animals), batch_size=8)
    assert data.num_classes == 2
    batch = batches(data)[0]
    assert set(batch) == {"image", "label"}
    assert batch["image"].dtype == torch.float32
    assert batch["image"].shape == (8, 3, 6, 8)
    assert batch["label"].dtype == torch.long
    images = torch.cat([batch["image"] for batch in ImageFolder(root=str(animals), batch_size=43).train_dataloader()])
    assert images.mean((0, 2, 3)).abs().max() < 1e-4
    assert (images.std((0, 2, 3)) - 1).abs().max() < 1e-3


def test_normalisation_by_hand():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 3)
    torch.testing.assert_close(Normalize([0.2], [0.4])(pixels), torch.tensor([[[-0.5, 0.0, 2.0]]]))


def test_erased_pixels_have_the_mean_colour(animals):
    erase = [v2.RandomErasing(p=1.0, scale=(0.3, 0.3))]
    batch = batches(ImageFolder(root=str(animals), batch_size=8, augment_normalized=erase))[0]
    assert ((batch["image"] == 0).sum((1, 2, 3)) > 20).all()


def test_what_augmentation_must_keep(animals):
    with pytest.raises(ValueError, match=r"augment must keep pictures uint8 but made torch\.float32"):
        batches(ImageFolder(root=str(animals), batch_size=8, augment=[v2.ToDtype(torch.float32)]))
    with pytest.raises(ValueError, match=r"augment made \(4, 4\) of pictures of image_size=\(6, 8\)"):
        batches(ImageFolder(root=str(animals), batch_size=8, augment=[v2.RandomCrop(4)]))


def test_overfitting_asks_for_plain_indices(animals):
    data = ImageFolder(root=str(animals), augment=[v2.RandomAffine(20)], batch_size=8)
    dataset = data.train_dataloader().dataset
    assert torch.equal(dataset[3][0], dataset[3][0])
    assert dataset[3][0].shape == (3, 6, 8)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_fit_gives_the_size(height, width, to_height, to_width):
    assert fit(torch.zeros(1, height, width, dtype=torch.uint8), (to_height, to_width)).shape == (
        1,
        to_height,
        to_width,
    )


def test_fit_keeps_proportions_and_the_middle():
    picture = torch.zeros(1, 4, 8, dtype=torch.uint8)
    picture[..., 2:6] = 200
    assert fit(picture, (4, 4)).tolist() == picture[..., 2:6].tolist()


def test_arguments_are_checked():
    for arguments, message in [
        ({"image_size": 0}, "image_size=0 must be positive"),
        ({"mean": [0.5]}, r"mean=\[0.5\] and std=None must be given together"),
        ({"mean": [0.5], "std": [0.0]}, r"std=\[0.0\] must be positive"),
    ]:
        with pytest.raises(ValueError, match=message):
            MNIST(**arguments)
    with pytest.raises(ValueError, match="must have 1 values"):
        _ = MNIST(mean=[0.5, 0.5], std=[1.0, 1.0]).facts
    with pytest.raises(ValueError, match="batch_size=5000 exceeds the 4000 training samples"):
        MNIST(batch_size=5000).train_dataloader()


def test_given_mean_and_std_come_before_the_datas_own():
    assert MNIST(mean=[0.5], std=[0.25]).facts["mean"] == [0.5]


def test_restored_facts_need_no_data(tmp_path, animals):
    data = ImageFolder(root=str(tmp_path / "gone"))
    data.restore_facts(FACTS)
    assert (data.class_names, data.num_classes, data.image_size) == (["cat", "dog"], 2, (6, 8))
    file = next((animals / "val" / "cat").iterdir())
    (batch,) = data.predict_loader(data.predict_files(file))
    assert batch["image"].shape == (1, 3, 6, 8)
    with pytest.raises(ValueError, match="facts lack mean"):
        data.restore_facts({name: value for name, value in FACTS.items() if name != "mean"})


def test_restored_facts_decide_how_pictures_are_prepared(animals):
    data = ImageFolder(root=str(animals), batch_size=4)
    data.restore_facts({**FACTS, "image_size": (3, 4), "mean": [0.0] * 3, "std": [1 / 255] * 3})
    batch = next(iter(data.val_dataloader()))
    assert batch["image"].shape == (4, 3, 3, 4)
    assert batch["image"].max() > 100


def test_prediction_prepares_pictures_as_evaluation_does(animals):
    data = ImageFolder(root=str(animals), batch_size=3)
    files = data.predict_files(animals / "val")
    assert files == sorted(files)
    assert len(files) == 8
    predicted = list(data.predict_loader(files))
    assert [batch["index"].tolist() for batch in predicted] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    evaluated = torch.cat([batch["image"] for batch in data.val_dataloader()])
    assert torch.equal(torch.cat([batch["image"] for batch in predicted]), evaluated)
    larger = next(iter(data.predict_loader(files, image_size=(12, 16))))
    assert larger["image"].shape == (3, 3, 12, 16)
    assert larger["shown"].tolist() == [list(shown_part(read_size(file), (12, 16))) for file in files[:3]]


@pytest.mark.parametrize("size", [(60, 100), (100, 60), (37, 41), (12, 12), (5, 90), (90, 5)])
def test_shown_part_is_what_fitting_keeps(size):
    """The colour of each corner of what is left is that of its place: red grows to the right, green downwards."""
    height, width = size
    rows, columns = torch.meshgrid(torch.linspace(0, 250, height), torch.linspace(0, 250, width), indexing="ij")
    picture = torch.stack([columns, rows, rows]).round().byte()
    left, top, right, bottom = shown_part(size, (12, 12))
    fitted = fit(picture, (12, 12)).float()
    assert right - left == pytest.approx(min(size), rel=0.05)
    assert bottom - top == pytest.approx(min(size), rel=0.05)
    for axis, (first, last), side in [(0, (left, right), width), (1, (top, bottom), height)]:
        middles = np.linspace(first, last, 12, endpoint=False) + (last - first) / 24 - 0.5
        expected = (250 * middles / (side - 1)).clip(0, 250)
        found = fitted[axis].mean(axis)
        np.testing.assert_allclose(found[1:-1], expected[1:-1], atol=0.6 * 250 / side + 2)


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_files_are_told_and_not_raised(animals, tmp_path, workers):
    good = next((animals / "val" / "cat").iterdir())
    for name, content in [("a.png", b""), ("b.png", b"text"), ("c.png", good.read_bytes()), ("d.txt", b"")]:
        (tmp_path / name).write_bytes(content)
    (tmp_path / ".hidden.png").write_bytes(b"")
    data = ImageFolder(root=str(tmp_path), batch_size=2, num_workers=workers)
    data.restore_facts(FACTS)
    files = data.predict_files(tmp_path)
    assert [file.name for file in files] == ["a.png", "b.png", "c.png"]
    bad, mixed = data.predict_loader([*files, tmp_path / "none.png"])
    assert bad["image"].shape == (0, 3, 6, 8)
    assert bad["index"].dtype == torch.long
    assert [index for index, _ in bad["failed"]] == [0, 1]
    assert bad["failed"][0][1] == f"{tmp_path / 'a.png'}: is empty"
    assert mixed["index"].tolist() == [2]
    assert mixed["failed"] == [(3, f"{tmp_path / 'none.png'}: no such file")]


def test_nothing_to_predict(tmp_path):
    data = MNIST()
    with pytest.raises(ValueError, match="holds no picture") as caught:
        data.predict_files(tmp_path)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        data.predict_files(tmp_path / "none")


CONFIG = """
data:
  class_path: MNIST
  init_args:
    image_size: [28, 28]
    augment:
    - class_path: torchvision.transforms.v2.RandomAffine
      init_args: {degrees: 10, translate: [0.1, 0.1], scale: [0.9, 1.1]}
    - class_path: torchvision.transforms.v2.RandAugment
    - {class_path: torchvision.transforms.v2.RandomCrop, init_args: {size: 28, padding: 4}}
    - class_path: torchvision.transforms.v2.RandomHorizontalFlip
    augment_normalized:
    - {class_path: torchvision.transforms.v2.RandomErasing, init_args: {p: 0.25}}
"""


def parser():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(DataModule, "data")
    return parser


def test_yaml_names_augmentations(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(CONFIG)))
    data = parser().instantiate_classes(parser().parse_args([f"--config={path}"])).data
    names = ["RandomAffine", "RandAugment", "RandomCrop", "RandomHorizontalFlip"]
    assert [type(change).__name__ for change in data.augment] == names
    assert isinstance(data.augment_normalized[0], v2.RandomErasing)
    assert next(iter(data.train_dataloader()))["image"].shape == (64, 1, 28, 28)


def test_the_shell_names_data_and_augmentations():
    arguments = ["--data=MNIST", "--data.augment+=torchvision.transforms.v2.RandAugment", "--data.image_size=32"]
    data = parser().instantiate_classes(parser().parse_args(arguments)).data
    assert isinstance(data.augment[0], v2.RandAugment)
    assert data.image_size == (32, 32)


def test_facts_can_be_linked():
    linked = parser()
    linked.add_argument("--classes", type=int, default=0)
    linked.add_argument("--size", type=tuple[int, int], default=(1, 1))
    linked.add_class_arguments(nn.Linear, "model")
    linked.link_arguments("data.num_classes", "model.out_features", apply_on="instantiate")
    linked.link_arguments(
        "data.image_size", "model.in_features", compute_fn=lambda size: size[0], apply_on="instantiate"
    )
    made = linked.instantiate_classes(linked.parse_args(["--data=MNIST"]))
    assert (made.model.in_features, made.model.out_features) == (28, 10)

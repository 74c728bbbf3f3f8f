import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as v2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser
from PIL import Image

from datamodules import Coco, DataModule
from datamodules.detection.annotations import Annotation, Annotations, Picture, Reading
from datamodules.detection.samples import AnnotatedPictures, DetectionSamples, Sizing
from tests.datamodules.detection.sets import document, rewrite, write_part

RED = torch.tensor([255.0, 0.0, 0.0])


def train_batches(data, epoch=0):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def denormalised(data, image):
    return (image * torch.tensor(data.std).view(3, 1, 1) + torch.tensor(data.mean).view(3, 1, 1)) * 255


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """A red rectangle on grey in each of 12 pictures, its box known."""
    root = tmp_path_factory.mktemp("squares")
    random = np.random.default_rng(0)
    pictures, pixels = {}, []
    for number in range(12):
        height, width = (int(side) for side in random.integers(60, 100, 2))
        w, h = (int(side) for side in random.integers(12, 30, 2))
        x, y = int(random.integers(0, width - w)), int(random.integers(0, height - h))
        array = np.full((height, width, 3), 90, np.uint8)
        array[y : y + h, x : x + w] = (255, 0, 0)
        pictures[f"{number}.png"] = ((height, width), [(3, x, y, w, h)])
        pixels.append(array)
    for split in ("train", "val"):
        write_part(root, split, document(pictures), pixels)
    return root


CHANGES = {
    "none": ([], {}),
    "flip": ([v2.RandomHorizontalFlip(p=1.0)], {}),
    "both flips": ([v2.RandomHorizontalFlip(p=0.5), v2.RandomVerticalFlip(p=0.5)], {}),
    "iou crop": ([v2.RandomIoUCrop()], {}),
    "scale jitter": ([v2.ScaleJitter(target_size=(80, 80), scale_range=(0.5, 1.5))], {}),
    "zoom out": ([v2.RandomZoomOut(p=1.0, fill=90)], {}),
    "shortest size": ([v2.RandomShortestSize(min_size=[50, 90], max_size=120)], {}),
    "scaled first": ([v2.RandomHorizontalFlip(p=0.5)], {"image_size": 110, "max_size": 130}),
    "all": (
        [
            v2.RandomZoomOut(p=0.5, fill=90),
            v2.RandomIoUCrop(),
            v2.RandomHorizontalFlip(),
            v2.ScaleJitter(target_size=(80, 80), scale_range=(0.8, 1.5)),
        ],
        {"image_size": 70},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_boxes_follow_the_pixels(squares, change):
    """All red lies inside the box, and reaches each of its sides to within a pixel or two."""
    augment, sizes = CHANGES[change]
    data = Coco(root=str(squares), augment=augment, batch_size=4, seed=1, **sizes)
    seen = 0
    for batch in [batch for epoch in range(3) for batch in train_batches(data, epoch)]:
        for image, mask, boxes in zip(batch["image"], batch["padding_mask"], batch["boxes"], strict=True):
            height, width = int((~mask).any(1).sum()), int((~mask).any(0).sum())
            red = (denormalised(data, image) - RED.view(3, 1, 1)).abs().amax(0)[:height, :width] < 60
            if not len(boxes):
                continue
            seen += 1
            cx, cy, w, h = (boxes[0] * torch.tensor([width, height, width, height])).tolist()
            rows, columns = red.any(1).nonzero().flatten(), red.any(0).nonzero().flatten()
            found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            expected = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
            assert np.abs(np.array(found) - np.array(expected)).max() <= 1.5
    assert seen >= 20


def test_the_padding_mask_is_the_padded_region(animals):
    batch = train_batches(Coco(root=str(animals), batch_size=5, seed=0))[0]
    assert batch["image"].shape == (5, 3, 40, 40)
    for image, mask, size in zip(batch["image"], batch["padding_mask"], batch["original_size"].tolist(), strict=True):
        expected = torch.ones(40, 40, dtype=torch.bool)
        expected[: size[0], : size[1]] = False
        assert torch.equal(mask, expected)
        assert torch.equal((image == 0).all(0), mask), "noise is never 0 once it is normalised"


def test_pixels_are_those_of_the_file_normalised(animals):
    data = Coco(root=str(animals), batch_size=1, mean=[0.5, 0.4, 0.3], std=[0.5, 0.25, 0.2])
    batch = next(iter(data.val_dataloader()))
    file = torch.from_numpy(np.array(Image.open(animals / "val2017/v.png"))).permute(2, 0, 1).float()
    torch.testing.assert_close(denormalised(data, batch["image"][0]), file, atol=1e-3, rtol=0)


def test_boxes_are_shares_of_the_picture_without_its_padding(animals):
    (batch,) = Coco(root=str(animals)).val_dataloader()
    assert batch["image"].shape == (2, 3, 24, 40)
    expected = torch.tensor([[10 / 40, 10 / 24, 12 / 40, 8 / 24], [0.75, 0.5, 0.5, 1]])
    torch.testing.assert_close(batch["boxes"][0], expected)
    narrow = next(iter(Coco(root=str(animals), image_size=12, batch_size=1).val_dataloader()))
    assert narrow["image"].shape == (1, 3, 12, 20)
    torch.testing.assert_close(narrow["boxes"][0], expected)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({}, [(24, 40), (12, 10)]),
        ({"image_size": 48}, [(48, 80), (58, 48)]),
        ({"image_size": 48, "max_size": 60}, [(36, 60), (58, 48)]),
        ({"max_size": 20}, [(12, 20), (12, 10)]),
        ({"image_size": 30, "max_size": 30}, [(18, 30), (30, 25)]),
    ],
)
def test_sizes_in_every_part_and_in_prediction(animals, sizes, expected):
    data = Coco(root=str(animals), batch_size=1, **sizes)
    evaluated = list(data.val_dataloader())
    assert [tuple(batch["image"].shape[-2:]) for batch in evaluated] == expected
    predicted = list(data.predict_loader(data.predict_files(animals / "val2017")))
    for one, other in zip(evaluated, predicted, strict=True):
        for name in ("image", "padding_mask", "original_size"):
            assert torch.equal(one[name], other[name])
    sizing = data.sizing
    for batch in train_batches(data):
        assert tuple(batch["image"].shape[-2:]) == sizing.of(*batch["original_size"][0].tolist())


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 1500), st.integers(1, 1500))
def test_sizing_keeps_its_bounds(height, width, image_size, max_size):
    sized = Sizing(image_size=image_size, max_size=max_size).of(height, width)
    assert max(sized) <= max_size
    assert min(sized) <= image_size
    assert min(sized) == image_size or max(sized) == max_size
    exact = min(image_size / min(height, width), max_size / max(height, width))
    assert sized == pytest.approx((height * exact, width * exact), abs=1)


coordinate = st.integers(-30, 80) | st.floats(-30, 80, width=16)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(boxes=st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), max_size=6), scaled=st.booleans())
def test_any_box_is_cut_to_its_picture_or_left_out(animals, boxes, scaled):
    path = animals / "val2017" / "v.png"
    rows = [Annotation(0, box, str(number), number) for number, box in enumerate(boxes)]
    reading = Reading({number: str(number) for number in range(6)}, [Picture(path, 1, path)], rows)
    sizing = Sizing(image_size=48 if scaled else None, max_size=None)
    sample = DetectionSamples(AnnotatedPictures(Annotations(reading), sizing=sizing, cache_bytes=0))[0]
    scale = 2 if scaled else 1
    clamped = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4).clamp(min=0)
    clamped = torch.minimum(clamped, torch.tensor([40.0, 24, 40, 24]))
    extent = clamped[:, 2:] - clamped[:, :2]
    kept = (extent * scale >= 1).all(1)
    assert sample["labels"].tolist() == kept.nonzero().flatten().tolist()
    expected = torch.cat([(clamped[:, :2] + clamped[:, 2:]) / 2, extent], 1)[kept] / torch.tensor([40.0, 24, 40, 24])
    torch.testing.assert_close(sample["boxes"], expected)


def test_objects_that_a_crop_leaves_out_are_gone_with_their_labels(tmp_path):
    """Thirty objects of 6x6 on a grid: those that lie in the crop stay, and a label is still its box's own."""
    places = [(20 * column + 7, 20 * row + 7) for row in range(5) for column in range(6)]
    categories = [{"id": number, "name": f"{number:02}"} for number in range(30)]
    boxes = [(number, x, y, 6, 6) for number, (x, y) in enumerate(places)]
    for split in ("train", "val"):
        write_part(tmp_path, split, document({"a.png": ((100, 120), boxes)}, categories))
    data = Coco(root=str(tmp_path), batch_size=1, augment=[v2.RandomIoUCrop()])
    numbers = set()
    for batch in [batch for epoch in range(30) for batch in train_batches(data, epoch)]:
        (kept,), (labels,) = batch["boxes"], batch["labels"]
        numbers.add(len(kept))
        assert len(kept) == len(labels)
        assert (kept[:, 2:] > 0).all()
        corners = torch.cat([kept[:, :2] - kept[:, 2:] / 2, kept[:, :2] + kept[:, 2:] / 2], 1)
        assert corners.min() > -1e-6
        assert corners.max() < 1 + 1e-6
        size = torch.tensor(batch["image"].shape[-2:]).flip(0)
        centres = kept[:, :2] * size
        whole = (kept[:, 2:] * size > 5.99).all(1)
        moved = centres - torch.tensor([places[label] for label in labels.tolist()])
        assert (moved[whole] - moved[whole][:1]).abs().max() < 0.01 if whole.any() else True
    assert len(numbers) > 5


def test_pictures_without_objects_train(animals, own):
    rewrite(own, "train", lambda content: content.update(annotations=content["annotations"][:1]))
    augment = [v2.RandomZoomOut(), v2.RandomIoUCrop(), v2.RandomHorizontalFlip(), v2.RandomPhotometricDistort()]
    batch = train_batches(Coco(root=str(own), batch_size=5, augment=augment))[0]
    counts = sorted(map(len, batch["boxes"]))
    assert counts[:4] == [0] * 4
    assert all(boxes.shape == (len(labels), 4) for boxes, labels in zip(batch["boxes"], batch["labels"], strict=True))
    assert all(labels.dtype == torch.long for labels in batch["labels"])


def test_a_crop_that_never_ends_is_refused():
    endless = v2.RandomIoUCrop(sampler_options=[0.3, 0.9])
    for augment in ([endless], [v2.RandomApply([endless])], [v2.Compose([v2.RandomChoice([endless])])]):
        with pytest.raises(ValueError, match=r"sampler_options=\[0\.3, 0\.9\] never ends .* let one option be 1\.0"):
            Coco(augment=augment)
    Coco(augment=[v2.RandomIoUCrop(sampler_options=[0.3, 1.0])])


@pytest.mark.parametrize("workers", [0, 2])
def test_augmentation_is_a_function_of_seed_epoch_and_index(animals, workers):
    augment = [v2.RandomIoUCrop(), v2.RandomHorizontalFlip(), v2.RandomPhotometricDistort()]
    torch.manual_seed(workers)
    data = Coco(root=str(animals), batch_size=2, augment=augment, num_workers=workers, seed=5)
    other = Coco(root=str(animals), batch_size=2, augment=augment, cache_bytes=0, seed=5)
    data.setup("fit")
    state = torch.get_rng_state()
    first, second = train_batches(data), train_batches(other)
    assert torch.equal(torch.get_rng_state(), state), "loading drew from the model's random numbers"
    for one, two in zip(first, second, strict=True):
        assert one["image_id"] == two["image_id"]
        assert torch.equal(one["image"], two["image"])
        assert all(torch.equal(*pair) for pair in zip(one["boxes"], two["boxes"], strict=True))
    assert [batch["image_id"] for batch in first] != [batch["image_id"] for batch in train_batches(data, epoch=1)]


def test_kept_pictures_are_not_changed_by_augmentation(animals):
    data = Coco(root=str(animals), batch_size=5, augment=[v2.RandomPhotometricDistort(p=1.0)])
    before = [data.pictures("train").read(index)[0].clone() for index in range(5)]
    train_batches(data)
    assert all(torch.equal(data.pictures("train").read(index)[0], before[index]) for index in range(5))


def test_what_exceeds_the_cache_is_read_when_needed(animals):
    total = sum(3 * h * w for h, w in [(24, 32), (32, 24), (16, 20), (40, 20), (20, 40)])
    kept = Coco(root=str(animals), cache_bytes=total).pictures("train")
    assert kept.read(0)[0] is kept.read(0)[0]
    read = Coco(root=str(animals), cache_bytes=total - 1).pictures("train")
    assert read.read(0)[0] is not read.read(0)[0]
    assert torch.equal(read.read(0)[0], kept.read(0)[0])


def test_augmentation_must_keep_uint8(animals):
    with pytest.raises(ValueError, match=r"augment must keep pictures uint8 but made torch\.float32"):
        train_batches(Coco(root=str(animals), batch_size=5, augment=[v2.ToDtype(torch.float32)]))


def test_overfitting_asks_for_plain_indices(animals):
    dataset = Coco(root=str(animals), augment=[v2.RandomIoUCrop()], batch_size=2).train_dataloader().dataset
    assert torch.equal(dataset[3]["image"], dataset[3]["image"])


def test_arguments_are_checked():
    for arguments, message in [
        ({"image_size": 0}, "image_size=0 must be positive"),
        ({"max_size": -1}, "max_size=-1 must be positive"),
        ({"cache_bytes": -1}, "cache_bytes=-1 must not be negative"),
        ({"mean": [0.5] * 3}, r"mean=.* and std=None must be given together"),
        ({"mean": [0.5], "std": [0.5]}, r"mean=\[0\.5\] must have 3 values, one for each channel"),
    ]:
        with pytest.raises(ValueError, match=message):
            Coco(**arguments)


FACTS = {
    "class_names": ["cat", "dog"],
    "num_classes": 2,
    "category_ids": [1, 2],
    "num_channels": 3,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "image_size": 6,
    "max_size": 8,
}


def test_restored_facts_need_no_data(tmp_path, animals):
    data = Coco(root=str(tmp_path / "gone"))
    data.restore_facts(FACTS)
    (batch,) = data.predict_loader(data.predict_files(animals / "val2017" / "v.png"))
    assert batch["image"].shape == (1, 3, 5, 8)
    assert batch["original_size"].tolist() == [[24, 40]]
    given = Coco(root=str(tmp_path / "gone"), image_size=12, max_size=100)
    given.restore_facts(FACTS)
    assert given.sizing.of(24, 40) == (12, 20)
    with pytest.raises(ValueError, match="facts lack category_ids"):
        data.restore_facts({name: value for name, value in FACTS.items() if name != "category_ids"})


def test_restored_classes_decide_the_labels(animals):
    data = Coco(root=str(animals))
    (batch,) = data.val_dataloader()
    assert batch["labels"][0].tolist() == [0, 2]
    data.restore_facts({**FACTS, "class_names": ["dog", "cat"]})
    (batch,) = data.val_dataloader()
    assert batch["labels"][0].tolist() == [1, 0]


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_files_are_told_and_not_raised(animals, tmp_path, workers):
    good = animals / "val2017" / "v.png"
    for name, content in [("a.png", b""), ("b.png", b"text"), ("c.png", good.read_bytes())]:
        (tmp_path / name).write_bytes(content)
    data = Coco(root=str(tmp_path), batch_size=2, num_workers=workers)
    data.restore_facts(FACTS)
    bad, mixed = data.predict_loader([*data.predict_files(tmp_path), tmp_path / "none.png"])
    assert bad["image"].shape[:2] == (0, 3)
    assert bad["padding_mask"].shape == (0, *bad["image"].shape[-2:])
    assert bad["original_size"].shape == (0, 2)
    assert bad["failed"][0] == (0, f"{tmp_path / 'a.png'}: is empty")
    assert mixed["index"].tolist() == [2]
    assert mixed["failed"] == [(3, f"{tmp_path / 'none.png'}: no such file")]


CONFIG = """
data:
  class_path: {name}
  init_args:
    image_size: 48
    max_size: 64
    augment:
    - {{class_path: torchvision.transforms.v2.RandomHorizontalFlip, init_args: {{p: 0.5}}}}
    - {{class_path: torchvision.transforms.v2.ScaleJitter, init_args: {{target_size: [64, 64]}}}}
    - class_path: torchvision.transforms.v2.RandomIoUCrop
"""


@pytest.mark.parametrize("name", ["Coco", "VOC", "DigitScenes"])
def test_yaml_and_shell_name_data_and_augmentations(animals, tmp_path, name):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(DataModule, "data")
    (tmp_path / "a.yaml").write_text(CONFIG.format(name=name))
    arguments = [f"--config={tmp_path / 'a.yaml'}", f"--data.root={animals}", "--data.batch_size=5"]
    data = parser.instantiate_classes(parser.parse_args(arguments)).data
    assert type(data).__name__ == name
    assert [type(change).__name__ for change in data.augment] == [
        "RandomHorizontalFlip",
        "ScaleJitter",
        "RandomIoUCrop",
    ]
    if name == "Coco":
        assert len(train_batches(data)[0]["boxes"]) == 5

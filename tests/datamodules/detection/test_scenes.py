import itertools
import json
import os
import stat
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from datamodules import DigitScenes
from datamodules.detection import drawing, scenes
from datamodules.detection.drawing import draw_scene, fit_digit, overlap
from datamodules.detection.scenes import NUM_SCENES, make_scenes
from datamodules.mnist import MNIST, read_digits

COUNTS = {"train": 60, "val": 20, "test": 30}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes") / "digit_scenes"
    make_scenes(folder, counts=COUNTS)
    return folder


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(scenes, "NUM_SCENES", COUNTS)
    monkeypatch.setattr(make_scenes, "__kwdefaults__", {**make_scenes.__kwdefaults__, "counts": COUNTS})


def records(folder, split):
    return json.loads((folder / "annotations" / f"{split}.json").read_text())


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_deterministic_to_the_byte_and_independent_of_the_number(made, tmp_path):
    make_scenes(tmp_path / "again", counts=COUNTS)
    assert files(tmp_path / "again") == files(made)
    make_scenes(tmp_path / "fewer", counts={"train": 3, "val": 2, "test": 1})
    for path, content in files(tmp_path / "fewer").items():
        if path.suffix == ".png":
            assert content == (made / path).read_bytes()
    make_scenes(tmp_path / "other", counts={"train": 1, "val": 1, "test": 1}, seed=1)
    for split in COUNTS:
        first = f"{split}/00000.png"
        assert (tmp_path / "other" / first).read_bytes() != (made / first).read_bytes()


@pytest.mark.parametrize("split", COUNTS)
def test_number_sizes_and_overlap(made, split):
    content = records(made, split)
    assert len(content["images"]) == COUNTS[split]
    boxes = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        x, y, w, h = annotation["bbox"]
        assert 12 <= max(w, h) <= 56
        assert 0 <= x < x + w <= 128
        assert 0 <= y < y + h <= 128
        assert annotation["area"] == w * h
        boxes[annotation["image_id"]].append((x, y, x + w, y + h))
    assert {len(members) for members in boxes.values()} <= set(range(1, 9))
    assert len({len(members) for members in boxes.values()}) >= 6
    for members in boxes.values():
        assert all(overlap(one, other) <= 0.3 for one, other in itertools.combinations(members, 2))


def test_no_digit_is_in_two_parts(made):
    sources = {split: {one["source"] for one in records(made, split)["annotations"]} for split in COUNTS}
    for one, other in itertools.combinations(sources.values(), 2):
        assert not one & other
    digits, parts = read_digits().images, MNIST()
    for split, members in sources.items():
        images = {image.numpy().tobytes() for image in parts.pictures(split).images}
        assert all(digits[source].numpy().tobytes() in images for source in members)


def test_labels_are_those_of_the_source_digits(made):
    labels = read_digits().labels
    for annotation in records(made, "val")["annotations"]:
        assert annotation["category_id"] == labels[annotation["source"]]


class Quiet:
    """A generator without noise."""

    def __init__(self, seed):
        self._random = np.random.default_rng(seed)

    def __getattr__(self, name):
        return getattr(self._random, name)

    def normal(self, mean, deviation, shape):
        return np.zeros(shape)


def plain(ground, random, size):
    return np.full((size, size), ground, np.int32)


def test_boxes_are_tight_around_visible_ink(monkeypatch):
    """Without clutter and noise, ink is what differs from the ground; one digit alone, so that all ink is its own."""
    monkeypatch.setattr("datamodules.detection.drawing.MOST_DIGITS", 1)
    monkeypatch.setattr("datamodules.detection.drawing._clutter", plain)
    images, sources = read_digits().images[:, 0].numpy(), np.arange(100)
    for seed in range(40):
        picture, (digit,) = draw_scene(images, sources, Quiet(seed))
        rows, columns = (picture != picture.min()).any(1).nonzero()[0], (picture != picture.min()).any(0).nonzero()[0]
        assert digit.box == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


def test_no_stroke_of_the_clutter_could_be_a_digit(monkeypatch):
    lengths = []

    def line(self, xy, **kwargs):
        lengths.append(np.hypot(xy[2] - xy[0], xy[3] - xy[1]))

    monkeypatch.setattr(ImageDraw.ImageDraw, "line", line)
    for seed in range(100):
        drawing._clutter(50, np.random.default_rng(seed), 128)
    lengths = np.array(lengths)
    assert ((lengths < 12) | (lengths > 56)).all()
    assert min((lengths < 12).sum(), (lengths > 56).sum()) > 100


def test_a_digit_that_another_hides_is_not_fair():
    """Two digits of 20x20 and 40x12 pixels; the second hides some rows of the first."""
    for hidden, fair in [(0, True), (3, True), (4, False)]:
        owner = np.zeros((64, 64), np.uint8)
        owner[:20, :20] = 1
        owner[20 - hidden : 32 - hidden, :40] = 2
        assert drawing._fair(owner, [400, 480]) is fair
    owner = np.zeros((64, 64), np.uint8)
    owner[:11, :11] = 1
    assert not drawing._fair(owner, [121]), "too small"
    owner[::2, :20], owner[1::2, :20] = 1, 2
    assert not drawing._fair(owner, [640, 640]), "the same box"


def test_a_fitted_digit_has_ink_on_every_side():
    for image, longer in zip(read_digits().images[:200, 0].numpy(), itertools.cycle(range(12, 57)), strict=False):
        opacity = fit_digit(image, longer)
        for side in (opacity[0], opacity[-1], opacity[:, 0], opacity[:, -1]):
            assert side.max() >= 64
        assert longer - 3 <= max(opacity.shape) <= longer
        assert set(opacity[opacity < 64].tolist()) <= {0}


def test_every_digit_and_size_occurs(made):
    annotations = [one for split in COUNTS for one in records(made, split)["annotations"]]
    assert len(Counter(one["category_id"] for one in annotations)) == 10
    sizes = np.array([max(one["bbox"][2:]) for one in annotations])
    assert (sizes < 20).sum() > 20
    assert (sizes > 45).sum() > 20


def test_the_data_module(tmp_path, few):
    data = DigitScenes(root=str(tmp_path), batch_size=20)
    assert data.class_names == list("0123456789")
    assert data.category_ids == list(range(10))
    assert not list(tmp_path.iterdir()), "facts need no scenes"
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (20, 3, 128, 128)
    assert not batch["padding_mask"].any()
    assert torch.equal(batch["image"].isfinite(), torch.ones_like(batch["image"], dtype=torch.bool))
    assert [len(list(getattr(data, f"{split}_dataloader")())) for split in COUNTS] == [3, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["digit_scenes"]
    assert data.check().num_findings == 0


def test_one_class(tmp_path, few):
    every, one = (DigitScenes(root=str(tmp_path), batch_size=20, one_class=flag) for flag in (False, True))
    assert (one.class_names, one.num_classes) == (["digit"], 1)
    for split in ("val", "test"):
        of_every, of_one = (next(iter(getattr(data, f"{split}_dataloader")())) for data in (every, one))
        for digits, anything in zip(of_every["labels"], of_one["labels"], strict=True):
            assert torch.equal(anything, torch.zeros_like(digits))
        for boxes, same in zip(of_every["boxes"], of_one["boxes"], strict=True):
            assert torch.equal(boxes, same)


def test_the_real_numbers():
    assert NUM_SCENES == {"train": 2000, "val": 200, "test": 400}


def test_an_interrupted_making_leaves_no_half_set(tmp_path, few, monkeypatch):
    saved = []

    def interrupted(self, path, *args, **kwargs):
        saved.append(path)
        if len(saved) == 65:  # the training part is written, that of validation is begun
            raise KeyboardInterrupt
        save(self, path, *args, **kwargs)

    save = Image.Image.save
    monkeypatch.setattr(Image.Image, "save", interrupted)
    data = DigitScenes(root=str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        data.prepare_data()
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(Image.Image, "save", save)
    data.prepare_data()
    assert len(list((tmp_path / "digit_scenes").rglob("*.png"))) == 110


def test_what_is_there_is_used_and_not_made_again(tmp_path, few):
    DigitScenes(root=str(tmp_path)).prepare_data()
    file = tmp_path / "digit_scenes" / "train" / "00000.png"
    before = file.stat().st_mtime_ns
    DigitScenes(root=str(tmp_path)).prepare_data()
    assert file.stat().st_mtime_ns == before


def test_another_process_that_was_faster_wins(tmp_path, few, monkeypatch):
    write = scenes._write

    def slow(folder, *args):
        monkeypatch.setattr(scenes, "_write", write)
        make_scenes(tmp_path / "digit_scenes")
        write(folder, *args)

    monkeypatch.setattr(scenes, "_write", slow)
    DigitScenes(root=str(tmp_path)).setup("fit")
    assert [path.name for path in tmp_path.iterdir()] == ["digit_scenes"]


def test_a_folder_that_is_no_whole_set_is_left_alone(tmp_path):
    (tmp_path / "digit_scenes" / "train").mkdir(parents=True)
    with pytest.raises(ValueError, match="is not a whole set of scenes; remove it, and it is made anew"):
        DigitScenes(root=str(tmp_path)).setup("fit")


def test_a_root_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot be written there \(Not a directory\).* --data\.root") as caught:
        DigitScenes(root=str(tmp_path / "file" / "below")).setup("fit")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_root_without_permission(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(ValueError, match="cannot be written there"):
        DigitScenes(root=str(tmp_path)).setup("fit")
    tmp_path.chmod(stat.S_IRWXU)

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from tasks.detr.drawing import class_colours, draw_boxes
from tasks.detr.report import save_predictions
from tasks.errors import TaskError
from tasks.pictures import read_picture
from tests.tasks.detr.conftest import CATEGORY_IDS, CLASS_NAMES, found

FIRST = found((10, 5, 40, 35, 0.6, 0), (20.25, 10, 80, 60, 0.9, 2), (1, 2, 3, 4, 0.1, 1))
THIRD = found((0, 0, 40, 90, 0.8, 1))


def batches(*detections, indices=None):
    indices = list(range(len(detections))) if indices is None else indices
    return [
        {"index": torch.tensor([index]), "detections": [each], "failed": []}
        for index, each in zip(indices, detections, strict=True)
    ]


def save(parts, names, folder, **options):
    folder.mkdir(exist_ok=True)
    return save_predictions(parts, names, folder, class_names=CLASS_NAMES, category_ids=CATEGORY_IDS, **options)


def test_json_is_what_was_found(pictures, tmp_path):
    path = save(batches(FIRST, found(), THIRD), pictures, tmp_path / "out")
    assert path == tmp_path / "out/predictions.json"
    records = json.loads(path.read_text(encoding="utf-8"))
    assert [record["image_id"] for record in records] == [1, 1, 1, 3]
    assert [record["score"] for record in records] == [0.9, 0.6, 0.1, 0.8]
    assert records[0] == {
        "image_id": 1,
        "file_name": pictures[0],
        "category_id": 90,
        "category_name": "a/b",
        "bbox": [20.25, 10.0, 59.75, 50.0],
        "score": 0.9,
    }
    assert records[3]["bbox"] == [0, 0, 40, 90]
    assert records[3]["category_name"] == CLASS_NAMES[1]


def test_json_is_read_by_coco(pictures, tmp_path):
    path = save(batches(FIRST, found(), THIRD), pictures, tmp_path / "out")
    truth = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(pictures, 1)],
        "annotations": [],
        "categories": [{"id": number} for number in CATEGORY_IDS],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    results = COCO(str(tmp_path / "truth.json")).loadRes(str(path))
    assert len(results.getAnnIds(imgIds=[1])) == 3
    (best,) = results.loadAnns(results.getAnnIds(imgIds=[1], catIds=[90]))
    assert best["area"] == 59.75 * 50


def test_files_keep_their_numbers_whatever_the_order_of_batches(pictures, tmp_path):
    path = save(batches(THIRD, FIRST, indices=[2, 0]), pictures, tmp_path / "out")
    records = json.loads(path.read_text())
    assert [record["image_id"] for record in records] == [1, 1, 1, 3]
    assert [Path(record["file_name"]).name for record in records] == ["1.jpg"] * 3 + ["2.jpg"]
    assert not (tmp_path / "out/drawings/b/1.png").exists(), "nothing is drawn of a file that could not be read"


def test_numbers_of_the_data_come_first(pictures, tmp_path):
    parts = [{"index": torch.tensor([0, 2]), "detections": [FIRST, THIRD], "image_id": [57, 12]}]
    records = json.loads(save(parts, pictures, tmp_path / "out").read_text())
    assert [record["image_id"] for record in records] == [57, 57, 57, 12]


def test_drawings_show_the_boxes(pictures, tmp_path):
    save(batches(FIRST, found(), THIRD), pictures, tmp_path / "out")
    drawn = {name: np.array(Image.open(tmp_path / f"out/drawings/{name}.png")) for name in ("a/1", "b/1", "b/2")}
    plain = read_picture(Path(pictures[0])).permute(1, 2, 0).numpy()
    assert drawn["a/1"].shape == plain.shape == (60, 80, 3)
    colours = class_colours(3)
    assert (drawn["a/1"][34, 12:15] == colours[0]).all(), "the lower edge of the first box"
    assert (drawn["a/1"][30:55, 79] == colours[2]).all(), "the right edge of one that ends where the picture does"
    assert (drawn["a/1"][45, 30:70] == plain[45, 30:70]).all(), "the inside is left as it was"
    assert (drawn["a/1"][:5, :5] == plain[:5, :5]).all(), "a box of a low score is not drawn"
    assert (drawn["b/1"] == read_picture(Path(pictures[1])).permute(1, 2, 0).numpy()).all()
    assert drawn["b/2"].shape == (90, 40, 3), "turned as its EXIF data say"
    assert (drawn["b/2"][30:, 0] == colours[1]).all()
    assert (drawn["b/2"][89, :] == colours[1]).all()


def test_scores_decide_what_is_written_and_drawn(pictures, tmp_path):
    options = {"min_score": 0.5, "min_score_drawn": 0.95}
    path = save(batches(FIRST), pictures[:1], tmp_path / "out", **options)
    assert [record["score"] for record in json.loads(path.read_text())] == [0.9, 0.6]
    drawn = np.array(Image.open(tmp_path / "out/drawings/1.png"))
    assert (drawn == read_picture(Path(pictures[0])).permute(1, 2, 0).numpy()).all()
    for name in options:
        with pytest.raises(ValueError, match=f"{name}=1.5"):
            save(batches(FIRST), pictures[:1], tmp_path / "out", **{name: 1.5})


def test_nothing_found_still_gives_files(pictures, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = save(batches(found(), found(), found()), pictures, tmp_path / "out")
    assert json.loads(path.read_text()) == []
    assert len(list((tmp_path / "out/drawings").rglob("*.png"))) == 3
    assert json.loads(save([], [], tmp_path / "none").read_text()) == []


def test_earlier_results_and_the_users_files_stay(pictures, tmp_path):
    before = {path: Path(path).read_bytes() for path in pictures}
    folder = tmp_path / "in"
    (folder / "predictions.json").write_text("mine")
    for _ in range(2):
        save(batches(FIRST, found(), THIRD), pictures, folder)
    assert {path: Path(path).read_bytes() for path in pictures} == before
    documents = [path.read_text() for path in folder.glob("predictions*.json")]
    assert len(documents) == 3
    assert "mine" in documents
    assert len(list((folder / "drawings/a").iterdir())) == 2
    assert not list(folder.rglob(".*")), "nothing half written is left"


def test_a_picture_that_is_gone_is_named_and_the_others_go_on(pictures, tmp_path):
    os.remove(pictures[0])
    Path(pictures[1]).write_bytes(b"no picture")
    with pytest.raises(TaskError, match="2 of 3 pictures could not be read again") as caught:
        save(batches(FIRST, found(), THIRD), pictures, tmp_path / "out")
    assert pictures[0] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(json.loads((tmp_path / "out/predictions.json").read_text())) == 4
    assert (tmp_path / "out/drawings/b/2.png").exists()


def test_boxes_that_are_not_finite_are_refused_before_anything_is_written(pictures, tmp_path):
    with pytest.raises(ValueError, match=r"1\.png: .* not finite"):
        save(batches(FIRST, found((0, 0, float("nan"), 1, 0.5, 0))), pictures, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "box", [(5, 5, 5, 5), (0, 0, 0, 50), (119, 49, 120, 50), (-9, -9, 500, 500), (500, 500, 600, 600)]
)
def test_any_box_can_be_drawn(pictures, box):
    picture = read_picture(Path(pictures[1]))
    drawn = draw_boxes(picture, found((*box, 0.7, 1)), CLASS_NAMES)
    assert drawn.shape == picture.shape
    assert drawn.dtype == torch.uint8
    assert (drawn != picture).any()


def test_the_surest_box_lies_on_top():
    boxes = found((10, 10, 90, 50, 0.9, 0), (10, 10, 90, 50, 0.6, 1))
    drawn = draw_boxes(torch.zeros(3, 60, 100, dtype=torch.uint8), boxes, CLASS_NAMES)
    assert drawn[:, 50, 50].tolist() == list(class_colours(2)[0])


def test_a_picture_of_one_pixel(tmp_path):
    Image.new("L", (1, 1)).save(tmp_path / "dot.png")
    save(batches(found((0, 0, 1, 1, 0.9, 0))), [str(tmp_path / "dot.png")], tmp_path / "out")
    assert Image.open(tmp_path / "out/drawings/dot.png").size == (1, 1)


def test_deep_grey_and_transparent_pictures_look_as_a_person_sees_them(tmp_path):
    Image.fromarray(np.array([[0, 257 * 100], [257 * 200, 65535]], dtype=np.uint16)).save(tmp_path / "deep.png")
    Image.new("RGBA", (2, 2), (10, 20, 30, 0)).save(tmp_path / "clear.png")
    assert read_picture(tmp_path / "deep.png")[0].tolist() == [[0, 100], [200, 255]]
    assert read_picture(tmp_path / "clear.png").unique().tolist() == [255]


def test_classes_have_colours_that_differ():
    for count in (3, 20, 91, 365):
        assert len(set(class_colours(count))) == count
    few = torch.tensor(class_colours(10), dtype=torch.float32)
    assert torch.pdist(few).min() > 60

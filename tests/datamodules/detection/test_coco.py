import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules import Coco
from datamodules.detection.coco import read_coco
from tests.datamodules.detection.sets import LAYOUT, document, rewrite, write_part


def refused(root, message, error=ValueError, stage="fit"):
    data = Coco(root=str(root))
    with pytest.raises(error, match=message) as caught:
        data.setup(stage)
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value)


def test_sparse_ids_become_labels_and_back(animals):
    data = Coco(root=str(animals))
    assert data.facts == {
        "class_names": ["cat", "owl", "dog"],
        "num_classes": 3,
        "category_ids": [3, 17, 90],
        "num_channels": 3,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "image_size": None,
        "max_size": None,
    }
    (batch,) = data.val_dataloader()
    assert batch["labels"][0].tolist() == [0, 2]
    assert [data.category_ids[label] for label in batch["labels"][0]] == [3, 90]
    assert batch["image_id"] == [10, 11]


@pytest.mark.parametrize("first", [0, 1])
def test_dense_ids(tmp_path, first):
    categories = [{"id": first, "name": "x"}, {"id": first + 1, "name": "y"}]
    for split in LAYOUT:
        write_part(tmp_path, split, document({"a.png": ((9, 9), [(first, 1, 1, 5, 5)])}, categories))
    data = Coco(root=str(tmp_path))
    assert (data.category_ids, data.class_names) == ([first, first + 1], ["x", "y"])
    (batch,) = data.val_dataloader()
    assert batch["labels"][0].tolist() == [0]


def test_other_parts_categories_are_found_by_name(own):
    def renumber(content):
        for record in content["categories"]:
            record["id"] += 1000
        for record in content["annotations"]:
            record["category_id"] += 1000

    rewrite(own, "val", renumber)
    (batch,) = Coco(root=str(own)).val_dataloader()
    assert batch["labels"][0].tolist() == [0, 2]


def test_truth_is_what_the_file_says(own):
    def change(content):
        content["annotations"][0] |= {"area": 33.5, "iscrowd": 1}
        content["annotations"][1]["bbox"] = [20, 0, 30, 24]  # reaches out of the picture

    rewrite(own, "val", change)
    (batch,) = Coco(root=str(own), image_size=48).val_dataloader()
    truth = batch["truth"][0]
    assert truth["boxes"].tolist() == [[4, 6, 16, 14], [20, 0, 50, 24]]
    assert truth["labels"].tolist() == [0, 2]
    assert truth["area"].tolist() == [33.5, 720]
    assert truth["crowd"].tolist() == [True, False]
    assert batch["labels"][0].tolist() == [2], "a crowd is no object to be found"
    torch.testing.assert_close(batch["boxes"][0], torch.tensor([[0.75, 0.5, 0.5, 1]]))
    assert batch["original_size"].tolist() == [[24, 40], [12, 10]]
    assert batch["truth"][1]["boxes"].shape == batch["boxes"][1].shape == (0, 4)


def test_annotations_may_come_in_any_order(animals, own):
    rewrite(own, "train", lambda content: content["annotations"].reverse())
    one, other = (Coco(root=str(root)).pictures("train").annotations for root in (animals, own))
    for index in range(5):
        assert one.of(index)["boxes"].flip(0).tolist() == other.of(index)["boxes"].tolist()


def test_a_name_of_several_lines_still_gets_one(own):
    rewrite(own, "train", lambda content: content["images"][0].update(file_name="a\nb.png"))
    refused(own, r"its image .*/a b\.png is missing", FileNotFoundError)


def test_validation_is_tested_where_there_is_no_test(animals):
    data = Coco(root=str(animals))
    with pytest.warns(UserWarning, match="has no test part with annotations; the validation part is tested"):
        (batch,) = data.test_dataloader()
    assert [name.rpartition("/")[2] for name in batch["file_name"]] == ["v.png", "w.png"]


def test_test_part_of_ones_own(animals):
    test = {"test_images": "train2017", "test_annotations": "annotations/instances_train2017.json"}
    (batch,) = Coco(root=str(animals), **test).test_dataloader()
    assert len(batch["image"]) == 5
    with pytest.raises(ValueError, match="test_images=x needs test_annotations as well"):
        Coco(test_images="x")


def test_making_one_touches_no_disk(tmp_path):
    Coco(root=str(tmp_path / "none"))
    assert not list(tmp_path.iterdir())


def annotation(**change):
    return lambda content: content["annotations"][1].update(change)


def without(part, key):
    return lambda content: content[part][1].pop(key)


def again(part):
    return lambda content: content[part].append(content[part][0])


FILE = r"instances_train2017\.json: "
DEFECTS = [
    (lambda content: content.pop("images"), FILE + "has no list 'images'; COCO's files have images"),
    (lambda content: content.update(annotations={}), FILE + "has no list 'annotations'"),
    (without("images", "id"), FILE + "image number 2 lacks 'id'"),
    (without("images", "file_name"), FILE + "image 11 lacks 'file_name'"),
    (without("annotations", "id"), FILE + "annotation number 2 lacks 'id'"),
    (without("annotations", "bbox"), FILE + "annotation 101 lacks 'bbox'"),
    (without("annotations", "image_id"), FILE + "annotation 101 lacks 'image_id'"),
    (without("annotations", "category_id"), FILE + "annotation 101 lacks 'category_id'"),
    (without("categories", "name"), FILE + "category 3 lacks 'name'"),
    (again("images"), FILE + "two images have the id 10"),
    (again("annotations"), FILE + "two annotations have the id 100"),
    (again("categories"), FILE + "two categories have the id 90"),
    (lambda content: content["categories"].append({"id": 1, "name": "cat"}), FILE + "two categories are called 'cat'"),
    (lambda content: content.update(categories=[], annotations=[]), "the training part has no class"),
    (lambda content: content.update(images=[], annotations=[]), "the train part has no picture"),
    (annotation(image_id=99), FILE + "annotation 101: image_id=99 is not among the images"),
    (annotation(category_id=4), FILE + "annotation 101: category_id=4 is not among the categories"),
    (annotation(bbox=[1, 2, 3]), FILE + r"annotation 101: bbox=\[1, 2, 3\] must be four numbers: x, y, width, height"),
    (annotation(bbox=[1, 2, 3, None]), FILE + "annotation 101: bbox=.*None.* must be four numbers"),
    (annotation(bbox=[1, 2, 3, float("nan")]), FILE + "annotation 101: bbox=.*nan.* must be four numbers"),
    (annotation(bbox=[1, 2, 3, 10**400]), FILE + "annotation 101: bbox=.* must be four numbers"),
    (annotation(bbox="1 2 3 4"), FILE + "annotation 101: bbox='1 2 3 4' must be a list"),
    (annotation(image_id="x"), FILE + "annotation 101: image_id='x' must be a whole number"),
    (lambda content: content["annotations"].append(3), FILE + "annotation number 7 is 3, not an object"),
]


@pytest.mark.parametrize(("change", "message"), DEFECTS, ids=[message[-40:] for _, message in DEFECTS])
def test_a_defect_gets_one_line(own, change, message):
    rewrite(own, "train", change)
    refused(own, message)


def test_more_defects_are_counted(own):
    rewrite(own, "train", lambda content: [record.pop("bbox") for record in content["annotations"]])
    refused(own, r"annotation 100 lacks 'bbox' \(and 5 more defects in this part of the data\)")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\udcff", "3"])
def test_no_json(own, text):
    (own / "annotations" / "instances_train2017.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(own, FILE + ("has no list" if text == "3" else "is no JSON file"))


def test_missing_files(own):
    (own / "train2017" / "b.png").unlink()
    refused(own, FILE + r"its image .*train2017/b\.png is missing", FileNotFoundError)
    (own / "annotations" / "instances_train2017.json").unlink()
    refused(own, FILE + r"no such annotation file; give the data's folder with --data\.root")


def test_an_unknown_class_of_validation(own):
    rewrite(own, "val", lambda content: content["categories"][0].update(name="wolf"))
    refused(own, r"instances_val2017\.json: annotation 101: class 'wolf' is unknown; known are cat, owl, dog")


@pytest.mark.parametrize("cache_bytes", [2**30, 0])
def test_pictures_of_another_size_than_said(own, cache_bytes):
    rewrite(own, "train", lambda content: content["images"][1].update(height=24, width=32))
    with pytest.raises(ValueError, match=r"b\.png: is 32x24 \(height x width\), but .*json says 24x32") as caught:
        list(Coco(root=str(own), cache_bytes=cache_bytes, batch_size=5).train_dataloader())
    assert "\n" not in str(caught.value)


def test_damaged_pictures(own):
    (own / "train2017" / "b.png").write_bytes(b"")
    refused(own, r"1 of 5 pictures cannot be read: .*b\.png: is empty")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_any_damage_to_a_document_is_told_and_not_raised(tmp_path, data):
    content = document({"a.png": ((9, 9), [(3, 1, 1, 5, 5)]), "b.png": ((9, 9), [(90, 1, 1, 5, 5)])})
    part = data.draw(st.sampled_from(["images", "annotations", "categories"]))
    if data.draw(st.booleans()):
        content[part] = data.draw(values)
    else:
        record = data.draw(st.sampled_from(content[part]))
        record[data.draw(st.sampled_from(sorted(record)))] = data.draw(values)
    file = tmp_path / "a.json"
    file.write_text(json.dumps(content))
    reading = read_coco(file, tmp_path)
    assert all(finding.line.splitlines() == [finding.line] for finding in reading.findings)
    assert all(len(row.box) == 4 and 0 <= row.picture < len(reading.pictures) for row in reading.annotations)

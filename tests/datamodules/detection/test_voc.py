import pytest
import torch

from datamodules import VOC
from datamodules.detection.voc import find_voc, read_voc
from tests.datamodules.detection.sets import write_voc

PARTS = {
    "train": {"a": [("dog", 1, 1, 30, 20), ("cat", 5, 6, 9, 12)], "b": [], "c": [("cat", 2, 2, 7, 7)]},
    "val": {"d": [("dog", 11, 2, 20, 9)]},
    "test": {"e": [("cat", 3, 3, 9, 9)], "f": []},
}
WEB = "JPEGImages"


def batch_of(root, part="val", **arguments):
    (batch,) = getattr(VOC(root=str(root), **arguments), f"{part}_dataloader")()
    return batch


def test_coordinates_count_pixels_from_one_and_include_the_last(tmp_path):
    write_voc(tmp_path, PARTS)
    truth = batch_of(tmp_path)["truth"][0]
    assert truth["boxes"].tolist() == [[10, 1, 20, 9]], "pixels 11 to 20 are ten pixels"
    assert truth["area"].tolist() == [80]
    whole = VOC(root=str(tmp_path)).pictures("train").annotations.of(0)["boxes"][0]
    assert whole.tolist() == [0, 0, 30, 20], "a box of 1, 1, width, height is the whole picture"


def test_classes_are_those_of_training_sorted_or_given(tmp_path):
    write_voc(tmp_path, PARTS)
    data = VOC(root=str(tmp_path))
    assert (data.class_names, data.category_ids) == (["cat", "dog"], [0, 1])
    assert batch_of(tmp_path)["labels"][0].tolist() == [1]
    given = VOC(root=str(tmp_path), class_names=["dog", "cat", "owl"])
    assert (given.class_names, given.num_classes) == (["dog", "cat", "owl"], 3)
    assert batch_of(tmp_path, class_names=["dog", "cat", "owl"])["labels"][0].tolist() == [0]
    names = [*"hgfedcba"]
    write_voc(tmp_path / "many", {"train": {"a": [(name, 1, 1, 5, 5) for name in names]}})
    assert list(read_voc(tmp_path / "many", "train").categories.values()) == sorted(names)
    with pytest.raises(ValueError, match=r"class_names=\['a', 'a'\] must name at least one class, and each once"):
        VOC(class_names=["a", "a"])
    with pytest.raises(ValueError, match=r"a\.xml: annotation 2: class 'cat' is unknown; known are dog"):
        VOC(root=str(tmp_path), class_names=["dog"]).setup("fit")


def test_boxes_drawn_by_mistake_have_no_extent(tmp_path):
    boxes = [("dog", 5, 5, 5, 5), ("dog", 9, 2, 4, 8), ("dog", 3, 3, 9, 9)]
    write_voc(tmp_path, {**PARTS, "train": {"a": boxes}})
    data = VOC(root=str(tmp_path), batch_size=1)
    with pytest.warns(UserWarning, match=r"2 of the 3 boxes of the train part .* left out: .*a\.xml: annotation 1"):
        (batch,) = data.train_dataloader()
    torch.testing.assert_close(batch["boxes"][0], torch.tensor([[5.5 / 30, 5.5 / 20, 7 / 30, 7 / 20]]))
    assert data.pictures("train").annotations.degenerate.tolist() == [True, True, False]


def test_difficult_objects_are_neither_trained_on_nor_counted(tmp_path):
    write_voc(tmp_path, PARTS)
    file = tmp_path / "Annotations" / "d.xml"
    file.write_text(file.read_text().replace("<difficult>0", "<difficult>1"))
    batch = batch_of(tmp_path)
    assert batch["truth"][0]["crowd"].tolist() == [True]
    assert len(batch["boxes"][0]) == 0


@pytest.mark.parametrize("filename", ["d", "other.jpg", "a.jpg", ""])
def test_a_picture_is_found_by_the_name_of_its_xml(tmp_path, filename):
    write_voc(tmp_path, PARTS)
    file = tmp_path / "Annotations" / "d.xml"
    file.write_text(file.read_text().replace("<filename>d.jpg", f"<filename>{filename}"))
    assert batch_of(tmp_path)["file_name"] == [str(tmp_path / WEB / "d.jpg")]


@pytest.mark.parametrize("filename", ["other.png", "other"])
def test_or_else_by_the_filename_in_it(tmp_path, filename):
    write_voc(tmp_path, PARTS, suffix=".png")
    (tmp_path / WEB / "d.png").rename(tmp_path / WEB / "other.png")
    file = tmp_path / "Annotations" / "d.xml"
    file.write_text(file.read_text().replace("<filename>d.png", f"<filename>{filename}"))
    assert batch_of(tmp_path)["file_name"] == [str(tmp_path / WEB / "other.png")]


def test_lists_may_have_flags_and_names_spaces(tmp_path):
    write_voc(tmp_path, {**PARTS, "val": {"my cell": [("dog", 1, 1, 5, 5)]}})
    (tmp_path / "ImageSets/Main/val.txt").write_text("my cell  1\n\n")
    assert batch_of(tmp_path)["file_name"] == [str(tmp_path / WEB / "my cell.jpg")]


def test_validation_is_tested_where_there_is_no_test(tmp_path):
    write_voc(tmp_path, PARTS)
    assert len(batch_of(tmp_path, "test")["image"]) == 2
    (tmp_path / "ImageSets/Main/test.txt").unlink()
    with pytest.warns(UserWarning, match="the validation part is tested"):
        assert len(batch_of(tmp_path, "test")["image"]) == 1
    with pytest.raises(ValueError, match=r"tset\.txt: no such list"):
        batch_of(tmp_path, "test", test_set="tset")


def test_root_may_contain_the_data(tmp_path):
    write_voc(tmp_path / "VOCdevkit" / "VOC2012", PARTS)
    assert find_voc(tmp_path) == find_voc(tmp_path / "VOCdevkit") == tmp_path / "VOCdevkit" / "VOC2012"
    write_voc(tmp_path / "VOCdevkit" / "VOC2007", PARTS)
    with pytest.raises(ValueError, match=r"holds several data sets \(VOCdevkit/VOC2007, VOCdevkit/VOC2012\)"):
        VOC(root=str(tmp_path)).setup("fit")
    with pytest.raises(FileNotFoundError, match=r"give the data's folder with --data\.root"):
        VOC(root=str(tmp_path / "none")).setup("fit")


DEFECTS = [
    ("<name>dog</name>", "", r"d\.xml: annotation 1 lacks <name>"),
    ("<xmin>11</xmin>", "", r"d\.xml: annotation 1 lacks <xmin>"),
    ("<xmin>11</xmin>", "<xmin>x</xmin>", r"d\.xml: annotation 1: xmin='x' must be a number"),
    ("<xmin>11</xmin>", "<xmin>nan</xmin>", r"d\.xml: annotation 1: xmin='nan' must be a number"),
    ("</annotation>", "", r"d\.xml: is no readable XML file"),
    ("<name>dog", "<name>wolf", r"d\.xml: annotation 1: class 'wolf' is unknown; known are cat, dog"),
    ("<width>30", "<width>20", r"d\.jpg: is 20x30 \(height x width\), but .*d\.xml says 20x20"),
]


@pytest.mark.parametrize(("old", "new", "message"), DEFECTS)
def test_a_defect_gets_one_line(tmp_path, old, new, message):
    write_voc(tmp_path, PARTS)
    file = tmp_path / "Annotations" / "d.xml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message) as caught:
        VOC(root=str(tmp_path)).setup("fit")
    assert "\n" not in str(caught.value)


def test_missing_files(tmp_path):
    write_voc(tmp_path, PARTS)
    (tmp_path / WEB / "d.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"d\.xml: its image .*d\.jpg is missing"):
        VOC(root=str(tmp_path)).setup("fit")
    (tmp_path / "Annotations" / "a.xml").unlink()
    with pytest.raises(ValueError, match=r"a\.xml: no such annotation file"):
        VOC(root=str(tmp_path)).setup("fit")
    (tmp_path / "ImageSets/Main/train.txt").write_text("c\nc\n")
    with pytest.raises(ValueError, match=r"train\.txt: lists c twice"):
        VOC(root=str(tmp_path)).setup("fit")


def test_sizes_of_zero_say_nothing(tmp_path):
    write_voc(tmp_path, PARTS)
    file = tmp_path / "Annotations" / "d.xml"
    file.write_text(file.read_text().replace("<width>30", "<width>0"))
    assert batch_of(tmp_path)["original_size"].tolist() == [[20, 30]]


def test_blood_cells(bccd):
    assert find_voc(bccd) == bccd / "BCCD_Dataset" / "BCCD"
    readings = {part: read_voc(find_voc(bccd), part) for part in ("train", "val", "test")}
    assert [len(reading.pictures) for reading in readings.values()] == [205, 87, 72]
    names = [row.category for reading in readings.values() for row in reading.annotations]
    assert {name: names.count(name) for name in set(names)} == {"RBC": 4155, "WBC": 372, "Platelets": 361}
    assert not any(reading.findings for reading in readings.values())
    boxes = [row.box for reading in readings.values() for row in reading.annotations]
    assert sum(x2 <= x1 or y2 <= y1 for x1, y1, x2, y2 in boxes) == 2


def test_blood_cells_train(bccd):
    data = VOC(root=str(bccd / "BCCD_Dataset" / "BCCD"), image_size=120, max_size=160, batch_size=8)
    assert data.class_names == ["Platelets", "RBC", "WBC"]
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (8, 3, 120, 160)
    assert not batch["padding_mask"].any()
    assert all(len(boxes) and boxes.min() >= 0 and boxes.max() <= 1 for boxes in batch["boxes"])

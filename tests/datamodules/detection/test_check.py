import json
from dataclasses import asdict

import pytest

from datamodules import VOC, Coco
from datamodules.detection.annotations import Defect
from tests.datamodules.detection.sets import rewrite, write_voc


def test_counts_and_sizes(own):
    rewrite(own, "train", lambda content: content["annotations"][2].update(area=10_000, iscrowd=1))
    train, val = Coco(root=str(own)).check().parts
    assert (train.split, train.images, train.annotations, train.crowds) == ("train", 5, 6, 1)
    assert train.per_class == {"cat": 3, "owl": 2, "dog": 1}
    assert train.sizes == {"small": 5, "medium": 0, "large": 1}
    assert train.widths == [4, 8.5, 10, 17.5, 24]
    assert train.heights == [8, 10, 11, 25.5, 32]
    assert (val.split, val.images, val.annotations) == ("val", 2, 2)
    assert set(train.findings) == set(val.findings) == {Defect.EMPTY}
    assert "c.png" in train.findings[Defect.EMPTY][0]


def test_a_clean_set_has_no_defects(animals):
    check = Coco(root=str(animals)).check()
    assert check.num_findings == 0
    report = str(check)
    assert report.splitlines()[0] == "train: 5 images, 6 annotations (0 of them crowds)"
    assert report.splitlines()[-1] == "no defects"
    assert json.loads(json.dumps(asdict(check)))["parts"][0]["images"] == 5


def spoil(content):
    boxes = content["annotations"]
    boxes[0]["bbox"] = [-3, 3, 10, 12]
    boxes[1]["bbox"] = [5, 5, 0, 8]
    boxes[2]["bbox"] = [5, 5, 10, -1]
    boxes[3]["bbox"] = [1, 1, 4, 90]
    boxes.append({**boxes[4], "id": 200})
    boxes.append({**boxes[4], "id": 201, "category_id": 90})  # the same place, another class
    boxes.append({**boxes[4], "id": 202, "image_id": 999})
    boxes.append({**boxes[4], "id": 203, "category_id": 999})
    boxes.append({**boxes[4], "id": 200})
    boxes.append({"id": 204})
    content["images"].append({"id": 50, "file_name": "gone.png", "height": 9, "width": 9})
    content["images"][2].update(height=1)


def test_every_defect_is_found_with_its_file(own):
    rewrite(own, "train", spoil)
    (own / "train2017" / "e.png").write_bytes(b"no picture")
    check = Coco(root=str(own)).check()
    findings = check.parts[0].findings
    expected = {
        Defect.OUTSIDE: ["annotation 100 of a.png, box -3, 3, 7, 15", "annotation 103 of d.png"],
        Defect.DEGENERATE: ["annotation 101 of a.png, box 5, 5, 5, 13", "annotation 102 of b.png"],
        Defect.DUPLICATE: ["annotation 200 of e.png, box 30, 10, 40, 20, as annotation 104"],
        Defect.UNKNOWN_IMAGE: ["annotation 202: image_id=999"],
        Defect.UNKNOWN_CATEGORY: ["annotation 203: category_id=999"],
        Defect.DUPLICATE_ID: ["two annotations have the id 200"],
        Defect.RECORD: ["annotation 204 lacks 'image_id'"],
        Defect.MISSING: ["gone.png is missing"],
        Defect.SIZE: ["c.png: is 16x20 (height x width)"],
        Defect.UNREADABLE: ["e.png"],
        Defect.EMPTY: ["c.png", "gone.png"],
    }
    assert set(findings) == set(expected)
    for defect, messages in expected.items():
        assert len(findings[defect]) == len(messages), defect
        for found, message in zip(findings[defect], messages, strict=True):
            assert message in found
            assert str(own) in found
    assert check.num_findings == 12
    assert "  2 boxes that reach out of their images:\n    " in str(check)


def test_a_long_list_is_cut_in_the_text_only(own):
    rewrite(own, "train", lambda content: content["annotations"].extend([{"id": 1000 + n} for n in range(15)]))
    check = Coco(root=str(own)).check()
    assert len(check.parts[0].findings[Defect.RECORD]) == 15
    assert "    ... and 5 more" in str(check)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_broken_file_does_not_hide_the_other_part(own, split):
    (own / "annotations" / f"instances_{split}2017.json").write_text("{")
    parts = {part.split: part for part in Coco(root=str(own)).check().parts}
    other = parts.pop("val" if split == "train" else "train")
    assert "is no JSON file" in parts[split].findings[Defect.FILE][0]
    assert parts[split].images == 0
    assert other.annotations > 1
    assert set(other.findings) == {Defect.EMPTY}


def test_voc(tmp_path):
    write_voc(tmp_path, {"train": {"a": [("x", 0, 1, 5, 5), ("y", 2, 2, 31, 9)]}, "val": {"b": []}, "test": {"c": []}})
    parts = VOC(root=str(tmp_path)).check().parts
    assert [part.split for part in parts] == ["train", "val", "test"]
    assert [len(part.findings.get(Defect.OUTSIDE, [])) for part in parts] == [2, 0, 0]
    (tmp_path / "ImageSets/Main/train.txt").write_text("")
    assert VOC(root=str(tmp_path)).check().parts[1].images == 1


def test_blood_cells(bccd):
    check = VOC(root=str(bccd)).check()
    assert [part.images for part in check.parts] == [205, 87, 72]
    counts = [sum(part.per_class[name] for part in check.parts) for name in ("RBC", "WBC", "Platelets")]
    assert counts == [4155, 372, 361]
    assert sum(len(part.findings.get(Defect.DEGENERATE, [])) for part in check.parts) == 2
    assert not any(part.findings.get(Defect.UNREADABLE) for part in check.parts)

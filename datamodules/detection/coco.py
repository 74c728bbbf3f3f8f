"""COCO's annotation files (Lin et al. 2014): one JSON for a part of the data."""

import json
import reprlib
from pathlib import Path
from typing import Any, TypeGuard

from datamodules.detection.annotations import Annotation, Defect, DefectError, Picture, Reading
from datamodules.detection.base import DetectionDataModule
from datamodules.labelled import Split

_LARGEST = 2**31  # a coordinate beyond is no picture's
_PARTS = ("images", "annotations", "categories")


class Coco(DetectionDataModule):
    """Pictures with boxes in COCO's format: a folder of pictures and a JSON file for each part.

    Category ids may be sparse and begin anywhere: labels count from 0 in the order of the training part's ids, and
    `category_ids` holds the id of each label. The other parts' categories are found by their names. Where no test part
    is given (the labels of COCO's own are secret) the validation part is tested, and a warning says so.

    Args:
        train_images: Folder of the training pictures, below `root` unless absolute.
        train_annotations: The training part's JSON file, below `root` unless absolute.
        val_images: Folder of the validation pictures.
        val_annotations: The validation part's JSON file.
        test_images: Folder of the test pictures; that of validation if not given.
        test_annotations: The test part's JSON file; that of validation if not given.
        pictures: The arguments of `DetectionDataModule`.

    Raises:
        ValueError: If `test_images` is given alone, or an argument is refused by `DetectionDataModule`.
    """

    found_by = ("annotations/instances_*.json",)

    def __init__(
        self,
        *,
        train_images: str = "train2017",
        train_annotations: str = "annotations/instances_train2017.json",
        val_images: str = "val2017",
        val_annotations: str = "annotations/instances_val2017.json",
        test_images: str | None = None,
        test_annotations: str | None = None,
        **pictures: Any,
    ) -> None:
        super().__init__(**pictures)
        if test_images is not None and test_annotations is None:
            raise ValueError(f"test_images={test_images} needs test_annotations as well")
        self._files: dict[Split, tuple[str, str]] = {
            "train": (train_images, train_annotations),
            "val": (val_images, val_annotations),
        }
        if test_annotations is not None:
            self._files["test"] = test_images or val_images, test_annotations

    def _has_test(self) -> bool:
        return "test" in self._files

    def _read(self, split: Split) -> Reading:
        images, annotations = self._files[split]
        return read_coco(self.root / annotations, self.root / images)


def read_coco(file: Path, folder: Path) -> Reading:
    """Reads a COCO annotation file; what is wrong with it becomes findings.

    Args:
        file: The JSON file.
        folder: Folder to which the images' `file_name` is relative.
    """
    reading = Reading()
    document = _load(file, reading)
    if document is None:
        return reading
    reading.categories = dict(sorted(_categories(document["categories"], file, reading).items()))
    places: dict[int, int] = {}
    for number, record in enumerate(document["images"]):
        try:
            picture = _picture(record, file, folder, f"image number {number + 1}")
            if picture.image_id in places:
                raise DefectError(Defect.DUPLICATE_ID, f"two images have the id {picture.image_id}")
        except DefectError as error:
            reading.add(error.defect, f"{file}: {error}")
            continue
        places[picture.image_id] = len(reading.pictures)
        reading.pictures.append(picture)
    seen: set[int] = set()
    for number, record in enumerate(document["annotations"]):
        try:
            annotation_id = _get(record, "id", int, f"annotation number {number + 1}")
            if annotation_id in seen:
                raise DefectError(Defect.DUPLICATE_ID, f"two annotations have the id {annotation_id}")
            seen.add(annotation_id)
            reading.annotations.append(_annotation(record, places, reading.categories))
        except DefectError as error:
            reading.add(error.defect, f"{file}: {error}")
    return reading


def _load(file: Path, reading: Reading) -> dict[str, list[Any]] | None:
    try:
        document = json.loads(file.read_bytes())
    except FileNotFoundError:
        reading.add(Defect.FILE, f"{file}: no such annotation file; give the data's folder with --data.root")
    except OSError as error:
        reading.add(Defect.FILE, f"{file}: cannot be read ({error.strerror})")
    except (ValueError, RecursionError) as error:  # also of bytes that are no UTF-8
        reading.add(Defect.FILE, f"{file}: is no JSON file ({' '.join(str(error).split())})")
    else:
        for key in _PARTS:
            if not isinstance(document, dict) or not isinstance(document.get(key), list):
                reading.add(Defect.FILE, f"{file}: has no list {key!r}; COCO's files have {', '.join(_PARTS)}")
                return None
        return document
    return None


def _categories(records: list[Any], file: Path, reading: Reading) -> dict[int, str]:
    categories: dict[int, str] = {}
    for number, record in enumerate(records):
        try:
            category_id = _get(record, "id", int, f"category number {number + 1}")
            name = _get(record, "name", str, f"category {category_id}")
            if category_id in categories:
                raise DefectError(Defect.DUPLICATE_ID, f"two categories have the id {category_id}")
            if name in categories.values():
                raise DefectError(Defect.DUPLICATE_ID, f"two categories are called {name!r}; rename one")
        except DefectError as error:
            reading.add(error.defect, f"{file}: {error}")
            continue
        categories[category_id] = name
    return categories


def _picture(record: Any, file: Path, folder: Path, what: str) -> Picture:
    image_id = _get(record, "id", int, what)
    name = _get(record, "file_name", str, f"image {image_id}")
    height, width = record.get("height"), record.get("width")
    said = isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0
    return Picture(folder / name, image_id, file, (height, width) if said else None)


def _annotation(record: dict[str, Any], places: dict[int, int], categories: dict[int, str]) -> Annotation:
    what = f"annotation {record['id']}"
    image_id = _get(record, "image_id", int, what)
    if image_id not in places:
        raise DefectError(Defect.UNKNOWN_IMAGE, f"{what}: image_id={image_id} is not among the images")
    category_id = _get(record, "category_id", int, what)
    if category_id not in categories:
        raise DefectError(Defect.UNKNOWN_CATEGORY, f"{what}: category_id={category_id} is not among the categories")
    box = _get(record, "bbox", list, what)
    if len(box) != 4 or not all(_is_number(value) for value in box):
        shown = reprlib.repr(box)
        raise DefectError(Defect.RECORD, f"{what}: bbox={shown} must be four numbers: x, y, width, height")
    x, y, width, height = map(float, box)
    area = record.get("area")
    return Annotation(
        picture=places[image_id],
        box=(x, y, x + width, y + height),
        category=categories[category_id],
        number=record["id"],
        area=float(area) if _is_number(area) and area >= 0 else None,
        crowd=bool(record.get("iscrowd")),
    )


def _get(record: Any, key: str, kind: type, what: str) -> Any:
    """A value of a record that `what` names."""
    if not isinstance(record, dict):
        raise DefectError(Defect.RECORD, f"{what} is {reprlib.repr(record)}, not an object")
    if key not in record:
        raise DefectError(Defect.RECORD, f"{what} lacks {key!r}")
    value = record[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        kinds = {int: "a whole number", str: "a text", list: "a list"}
        raise DefectError(Defect.RECORD, f"{what}: {key}={reprlib.repr(value)} must be {kinds[kind]}")
    return value


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST

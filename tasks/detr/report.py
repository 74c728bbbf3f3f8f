"""What object detection leaves behind: boxes in COCO's format for results, and drawn on the pictures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torchvision.ops import box_convert

from tasks.detr.boxes import check_detections
from tasks.detr.drawing import draw_boxes, save_picture
from tasks.errors import TaskError
from tasks.pictures import read_picture
from tasks.run import output_names, write_anew


def save_predictions(
    batches: Sequence[dict[str, Any]],
    names: Sequence[str],
    folder: Path,
    *,
    class_names: Sequence[str],
    category_ids: Sequence[int],
    min_score: float = 0.0,
    min_score_drawn: float = 0.5,
) -> Path:
    """Writes `predictions.json`, and each picture with its boxes as `drawings/NAME.png`.

    `predictions.json` is a list in COCO's format for results: `image_id`, `file_name`, `category_id`,
    `category_name`, `bbox` (left, top, width, height, in pixels of the file's picture, turned as its EXIF data say) and
    `score`; by file, best first. Files of an earlier prediction are kept under another name.

    Args:
        batches: Of each batch the `index` of its pictures among `names`, and `detections`: of each picture `boxes`
            (n, 4), absolute `x1, y1, x2, y2` in its pixels, `scores` (n,), `labels` (n,); perhaps also `image_id`, the
            data's own, where it has one. Otherwise the files are numbered from 1.
        names: Path of each file.
        folder: Where to write.
        class_names: Name of each class.
        category_ids: The data's own number of each class.
        min_score: Score from which on a box is written.
        min_score_drawn: Score from which on a box is drawn.

    Returns:
        The path of `predictions.json`.

    Raises:
        ValueError: If a score is no share, or a box or score that was found is not finite.
        TaskError: If a picture cannot be drawn on; the others are, and `predictions.json` is whole.
    """
    for name, value in {"min_score": min_score, "min_score_drawn": min_score_drawn}.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value} is not in [0, 1]")
    found = _by_file(batches, names, len(class_names))
    records = []
    for index, (image_id, detections) in found.items():
        kept = _at_least(min_score, detections)
        columns = (box_convert(kept["boxes"].double(), "xyxy", "xywh").tolist(), kept["labels"].tolist())
        for box, label, score in zip(*columns, kept["scores"].tolist(), strict=True):
            record = {"image_id": image_id, "file_name": names[index]}
            record |= {"category_id": category_ids[label], "category_name": class_names[label]}
            records.append({**record, "bbox": [round(side, 3) for side in box], "score": round(score, 6)})
    document = folder / "predictions.json"
    write_anew(document, json.dumps(records, indent=2, ensure_ascii=False, allow_nan=False))
    failed = []
    outputs = output_names(names)
    for index, (_, detections) in found.items():
        try:
            picture = read_picture(Path(names[index]))
        except (OSError, ValueError) as error:
            failed.append(f"{names[index]} ({' '.join(str(error).split())})")
            continue
        drawn = draw_boxes(picture, _at_least(min_score_drawn, detections), class_names)
        save_picture(drawn, folder / "drawings" / f"{outputs[index]}.png")
    if failed:
        raise TaskError(
            f"{len(failed)} of {len(found)} pictures could not be read again to draw on, their boxes are in "
            f"{document}: {'; '.join(failed)}"
        )
    return document


def _by_file(
    batches: Sequence[dict[str, Any]], names: Sequence[str], num_classes: int
) -> dict[int, tuple[int, dict[str, Tensor]]]:
    """The number and the detections of each file, best first, in the order of the files."""
    found = {}
    for batch in batches:
        numbers = batch.get("image_id", [index + 1 for index in batch["index"].tolist()])
        for index, number, detections in zip(batch["index"].tolist(), numbers, batch["detections"], strict=True):
            check_detections(detections, str(names[index]), num_classes)
            order = detections["scores"].argsort(descending=True, stable=True)
            ordered = {key: detections[key][order].cpu() for key in ("boxes", "scores", "labels")}
            found[index] = (int(number), ordered)
    return dict(sorted(found.items()))


def _at_least(score: float, detections: dict[str, Tensor]) -> dict[str, Tensor]:
    kept = detections["scores"] >= score
    return {key: value[kept] for key, value in detections.items()}

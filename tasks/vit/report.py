"""What image classification leaves behind: the confusion matrix as a picture, and predictions as CSV and JSON."""

import csv
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from tasks.run import keep_earlier, write_whole


def save_confusion(matrix: Tensor, class_names: list[str], path: Path) -> None:
    """Draws how often each class was taken for each other.

    Args:
        matrix: (true class, predicted class) counts.
        class_names: Name of each class.
        path: The picture to write.
    """
    from matplotlib.figure import Figure

    share = (matrix / matrix.sum(1, keepdim=True).clamp(min=1)).cpu().numpy()
    side = max(4.0, min(16.0, 0.5 * len(class_names)))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class")
    if len(class_names) <= 40:
        axes.set_xticks(range(len(class_names)), class_names, rotation=90)
        axes.set_yticks(range(len(class_names)), class_names)
    if len(class_names) <= 20:
        for row, counts in enumerate(matrix.tolist()):
            for column, count in enumerate(counts):
                if count:
                    colour = "white" if share[row, column] > 0.5 else "black"
                    axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    figure.savefig(path, dpi=120)


def save_predictions(batches: list[dict[str, Any]], names: list[str], class_names: list[str], folder: Path) -> Path:
    """Writes `predictions.csv` (file, label, probability, top5) and `predictions.json`.

    Args:
        batches: For each batch the `index` of its pictures among `names` and their `probabilities`.
        names: Name of each file.
        class_names: Name of each class.
        folder: Where to write; files of an earlier prediction are kept under another name.

    Returns:
        The path of `predictions.csv`.
    """
    records = []
    for batch in batches:
        probabilities, order = batch["probabilities"].float().sort(descending=True)
        for index, shares, classes in zip(batch["index"].tolist(), probabilities, order, strict=True):
            top = [
                {"label": class_names[label], "probability": round(share, 6)}
                for label, share in zip(classes[:5].tolist(), shares[:5].tolist(), strict=True)
            ]
            records.append({"file": names[index], **top[0], "top5": top})
    table, document = folder / "predictions.csv", folder / "predictions.json"
    keep_earlier(table, document)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["file", "label", "probability", "top5"])
        writer.writeheader()
        for record in records:
            top5 = json.dumps([[entry["label"], entry["probability"]] for entry in record["top5"]], ensure_ascii=False)
            writer.writerow({**record, "top5": top5})
    write_whole(document, json.dumps(records, indent=2, ensure_ascii=False))
    return table

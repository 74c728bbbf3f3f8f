"""Pictures with boxes drawn on them."""

import colorsys
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import draw_bounding_boxes

from tasks.run import write_anew

Colour = tuple[int, int, int]


def class_colours(num_classes: int) -> list[Colour]:
    """A colour for each class, the first ones far apart: hues by the golden angle, at changing brightness."""
    colours = []
    for label in range(num_classes):
        saturation, value = 1 - label % 3 * 0.2, 1 - label // 3 % 3 * 0.2
        red, green, blue = colorsys.hsv_to_rgb(label * 0.618034 % 1, saturation, value)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return colours


def draw_boxes(picture: Tensor, detections: Mapping[str, Tensor], class_names: Sequence[str]) -> Tensor:
    """Draws boxes with class and score, the surest on top; lines and letters grow with the picture.

    Args:
        picture: uint8 (3, height, width).
        detections: `boxes` (n, 4), absolute `x1, y1, x2, y2` in its pixels; `scores` (n,); `labels` (n,).
        class_names: Name of each class.

    Returns:
        uint8 (3, height, width).
    """
    if not len(detections["scores"]):
        return picture
    import matplotlib

    order = detections["scores"].argsort(stable=True).cpu()
    boxes, scores, labels = (detections[key].cpu()[order] for key in ("boxes", "scores", "labels"))
    height, width = picture.shape[1:]
    last = torch.tensor([width, height, width, height]) - 1
    every = class_colours(len(class_names))
    colours = [every[label] for label in labels.tolist()]
    return draw_bounding_boxes(
        picture,
        boxes.float().clamp(min=0).minimum(last),
        labels=[
            f"{class_names[label]} {score:.2f}" for label, score in zip(labels.tolist(), scores.tolist(), strict=True)
        ],
        colors=list(colours),
        label_colors=[_legible_on(colour) for colour in colours],
        fill_labels=True,
        width=max(2, round(max(height, width) / 400)),
        font=str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")),
        font_size=max(10, round(max(height, width) / 50)),
    )


def save_picture(picture: Tensor, path: Path) -> None:
    """Writes a PNG whole or not at all; an earlier file of that name is kept under another.

    Args:
        picture: uint8 (3, height, width).
        path: The file; its folder is made.
    """
    content = io.BytesIO()
    to_pil_image(picture).save(content, format="PNG")
    write_anew(path, content.getvalue())


def _legible_on(colour: Colour) -> str:
    red, green, blue = colour
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else "white"

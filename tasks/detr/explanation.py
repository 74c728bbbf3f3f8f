"""Where a network looked for each box: heat over the picture."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from core.explain import AttentionCall, attention_rollout
from tasks.detr.boxes import xyxy_to_cxcywh
from tasks.detr.drawing import class_colours
from tasks.pictures import Panel, in_panel, plain, read_picture, sheet, with_heat

Maps = dict[str, Float[Tensor, "boxes rows columns"]]
Boxes = Mapping[str, Tensor]
"""Of a picture: `boxes` (n, 4), absolute `x1, y1, x2, y2` in its file's pixels; `scores`, `labels`, `queries` (n,)."""

Place = tuple[float, float, float, float]

TITLES = {
    "cross_attention": ("decoder, last layer", "the box's query looks"),
    "last_layer": ("encoder, last layer", "the box's middle (+) looks"),
    "rollout": ("attention rollout", "the query, through all layers"),
}
MOST_BOXES = 8
"""Boxes of a picture that are explained at most."""
SURE = 0.5
"""Score from which on a box is explained, as `predict` draws it; the surest always is."""


def shown_boxes(detections: Boxes) -> Boxes:
    """The boxes that are explained, the surest first."""
    order = detections["scores"].argsort(descending=True, stable=True)
    count = max(1, int((detections["scores"] >= SURE).sum()))
    return {name: each[order[: min(count, MOST_BOXES)]] for name, each in detections.items()}


def real_cells(
    padding: Bool[Tensor, "batch cells"] | None, grid: tuple[int, int], batch: int
) -> list[Bool[Tensor, "rows columns"]]:
    """Which cells of the grid each picture of a batch has, where it is not padding."""
    if padding is None:
        return [torch.ones(grid, dtype=torch.bool)] * batch
    return list(~padding.unflatten(1, grid).cpu())


def cell_weights(
    calls: Sequence[AttentionCall],
    boxes: Boxes,
    original_size: Int[Tensor, "2"],
    real: Bool[Tensor, "rows columns"],
) -> Maps:
    """The weights with which the cells of a picture were seen: for each box `cross_attention`, `last_layer`, `rollout`.

    `cross_attention` is what the box's query saw in the decoder's last layer, and `rollout` follows it back through the
    encoder; `last_layer` is what the cell in the box's middle saw in the encoder. Means over heads; each sums to 1.

    Args:
        calls: Of each layer of the encoder and the decoder's last encoder-decoder attention, for this picture alone.
        boxes: The boxes.
        original_size: Height and width of the picture's file, in pixels.
        real: Which cells of the batch's grid the picture has: those of its upper left.
    """
    *encoder, decoder = calls
    grid = (int(real.any(1).sum()), int(real.any(0).sum()))
    query = F.one_hot(boxes["queries"], decoder.q.shape[2])[None].to(decoder.q)
    middle = centre_cells(boxes["boxes"], original_size, grid)
    with torch.no_grad():
        seen = decoder.rows(query).mean(1)[..., real.flatten().to(query.device)]
        around = encoder[-1].rows(F.one_hot(middle, encoder[-1].q.shape[2])[None].to(query)).mean(1)
        maps = {"cross_attention": seen, "last_layer": around, "rollout": attention_rollout(encoder, seen)}
    return {name: each[0].unflatten(1, grid) for name, each in maps.items()}


def centre_cells(
    boxes: Float[Tensor, "boxes 4"], original_size: Sequence[int] | Int[Tensor, "2"], grid: tuple[int, int]
) -> Int[Tensor, " boxes"]:
    """The cell in which each box has its centre, by its number row by row.

    Args:
        boxes: Absolute `x1, y1, x2, y2` in pixels of the original.
        original_size: Height and width of the picture's file, in pixels.
        grid: Rows and columns of the picture's cells.

    >>> centre_cells(torch.tensor([[0.0, 0.0, 10.0, 10.0], [90.0, 40.0, 100.0, 50.0]]), (50, 100), (2, 8))
    tensor([ 0, 15])
    """
    centre_x, centre_y = xyxy_to_cxcywh(boxes.float()).unbind(-1)[:2]
    (height, width), (rows, columns) = (int(side) for side in original_size), grid
    row = (centre_y / height * rows).long().clamp(0, rows - 1)
    return row * columns + (centre_x / width * columns).long().clamp(0, columns - 1)


def draw(file: Path, boxes: Boxes, weights: Maps, class_names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Draws one picture: a row a box, the box itself and each of the weights, on a scale from 0 to its own greatest.

    Args:
        file: The picture.
        boxes: The boxes, the surest first.
        weights: For each box.
        class_names: Name of each class.
    """
    if not len(boxes["scores"]):
        return
    picture, rows = read_picture(file), []
    image, colours = plain(picture), class_colours(len(class_names))
    every = zip(boxes["boxes"].tolist(), boxes["labels"].tolist(), boxes["scores"].tolist(), strict=True)
    for number, (box, label, score) in enumerate(every):
        place = in_panel(box, picture, image)
        found = _with_box(image.copy(), place, colours[label], width=3)
        row = [Panel(f"{class_names[label]} ({100 * score:.0f}%)", file.name, found)]
        for name, each in weights.items():
            title, looks = TITLES[name]
            heat = _with_box(with_heat(image, each[number], (0, 0, *image.size)), place, (255, 255, 255), width=1)
            if name == "last_layer":
                _mark_middle(heat, place)
            row.append(Panel(title, f"{looks}; brightest {100 * float(each[number].max()):.1f}%", heat))
        rows.append(row)
    yield "", sheet(rows)


def _with_box(image: Image.Image, place: Place, colour: tuple[int, int, int], *, width: int) -> Image.Image:
    left, top, right, bottom = place
    corners = (left, top, max(right - 1, left), max(bottom - 1, top))
    ImageDraw.Draw(image).rectangle(corners, outline=colour, width=width)
    return image


def _mark_middle(image: Image.Image, place: Place) -> None:
    left, top, right, bottom = place
    x, y, arm = (left + right) / 2, (top + bottom) / 2, 4
    draw = ImageDraw.Draw(image)
    draw.line((x - arm, y, x + arm, y), "white")
    draw.line((x, y - arm, x, y + arm), "white")

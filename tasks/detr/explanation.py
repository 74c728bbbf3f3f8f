"""Where a network looked for each box: heat maps over the picture, and the weights themselves."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from tasks.detr.boxes import xyxy_to_cxcywh
from tasks.detr.drawing import draw_boxes, read_picture
from tasks.figures import as_png
from tasks.run import write_anew

Maps = Float[Tensor, "boxes heads rows columns"]

TITLES = {"cross_attention": "decoder: the box's query", "encoder_attention": "encoder: the box's centre"}


def centre_cells(
    boxes: Float[Tensor, "boxes 4"],
    original_size: Sequence[int] | Int[Tensor, "2"],
    grid: tuple[int, int],
    picture_share: tuple[float, float] = (1.0, 1.0),
) -> Int[Tensor, " boxes"]:
    """The cell of a feature map in which each box has its centre, by its number row by row.

    Args:
        boxes: Absolute `x1, y1, x2, y2` in pixels of the original.
        original_size: Height and width of the picture's file, in pixels.
        grid: Rows and columns of the feature map, which covers the padded picture.
        picture_share: Share of the feature map's height and width that the picture without padding takes.

    >>> import torch
    >>> centre_cells(torch.tensor([[0.0, 0.0, 10.0, 10.0], [90.0, 40.0, 100.0, 50.0]]), (50, 100), (4, 8), (0.5, 1.0))
    tensor([ 0, 15])
    """
    centre_x, centre_y = xyxy_to_cxcywh(boxes.float()).unbind(-1)[:2]
    height, width = (int(side) for side in original_size)
    places = []
    for centre, side, cells, share in zip((centre_y, centre_x), (height, width), grid, picture_share, strict=True):
        places.append((centre / side * share * cells).long().clamp(0, _cells(cells * share) - 1))
    return places[0] * grid[1] + places[1]


def draw_attention(
    file: str | Path,
    detections: Mapping[str, Tensor],
    folder: Path,
    name: str,
    *,
    cross_attention: Maps,
    encoder_attention: Maps,
    class_names: Sequence[str],
    picture_share: tuple[float, float] = (1.0, 1.0),
    limit: int = 20,
) -> list[Path]:
    """Writes `attention/NAME_01.png`, ... for the surest boxes of a picture, and `attention/NAME.npz`.

    A PNG shows the picture with the box; over it the weights with which the box's query saw the encoder's memory in
    the decoder; and those with which the cell in the middle of the box (`centre_cells`) saw all others in the encoder;
    means over heads, each on a scale from 0 to its own greatest weight within the picture. The `.npz` holds the
    weights of each head as they were given, padding included, with `boxes`, `scores`, `labels`, `picture_share`.

    Args:
        file: The picture.
        detections: `boxes` (n, 4), absolute `x1, y1, x2, y2` in its pixels; `scores` (n,); `labels` (n,).
        folder: Where to write; files of an earlier run are kept under another name.
        name: Name of the picture's files, without suffix, as of `tasks.run.output_names`.
        cross_attention: The decoder's weights for each detection, on the padded picture's feature map.
        encoder_attention: The encoder's weights for each detection, likewise.
        class_names: Name of each class.
        picture_share: Share of the feature map's height and width that the picture without padding takes.
        limit: The most boxes that are drawn and saved.

    Returns:
        The PNGs, the surest box first.

    Raises:
        ValueError: If `limit` or a share cannot be, or there is not one map for each detection.
    """
    count = len(detections["scores"])
    if limit < 1:
        raise ValueError(f"limit={limit} must be at least 1")
    if not all(0 < share <= 1 for share in picture_share):
        raise ValueError(f"picture_share={picture_share} is not in (0, 1]")
    if not len(cross_attention) == len(encoder_attention) == count:
        raise ValueError(
            f"cross_attention of {len(cross_attention)} boxes and encoder_attention of {len(encoder_attention)}, "
            f"but there are {count} detections"
        )
    if not count:
        return []
    best = detections["scores"].argsort(descending=True, stable=True)[:limit]
    chosen = {
        "boxes": detections["boxes"][best].float().cpu(),
        "scores": detections["scores"][best].float().cpu(),
        "labels": detections["labels"][best].cpu(),
    }
    maps = {
        "cross_attention": cross_attention[best].float().cpu(),
        "encoder_attention": encoder_attention[best].float().cpu(),
    }
    picture = read_picture(Path(file))
    base = folder / "attention" / name
    base.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for number in range(len(best)):
        box = {key: value[number : number + 1] for key, value in chosen.items()}
        heat = {key: value[number].mean(0) for key, value in maps.items()}
        path = base.with_name(f"{base.name}_{number + 1:02}.png")
        with_box = draw_boxes(picture, box, class_names)
        write_anew(path, _panels(picture, with_box, box["boxes"][0].tolist(), heat, picture_share))
        written.append(path)
    content = io.BytesIO()
    arrays: dict[str, Any] = {key: value.numpy() for key, value in {**chosen, **maps}.items()}
    np.savez_compressed(content, picture_share=np.array(picture_share), **arrays)
    write_anew(base.with_name(f"{base.name}.npz"), content.getvalue())
    return written


def _panels(
    picture: Tensor,
    with_box: Tensor,
    box: Sequence[float],
    heat: Mapping[str, Float[Tensor, "rows columns"]],
    picture_share: tuple[float, float],
) -> bytes:
    """The picture with its box, and beside it one panel for each heat map, as PNG."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    height, width = picture.shape[1:]
    left, top, right, bottom = box
    panel = 4.0 * min(max(height / width, 0.25), 4.0)
    figure = Figure(figsize=(4.0 * (1 + len(heat)) + 1, panel + 0.6), layout="constrained")
    first, *others = figure.subplots(1, 1 + len(heat))
    first.imshow(with_box.permute(1, 2, 0).numpy())
    first.set_title("found")
    for axes, (key, weights) in zip(others, heat.items(), strict=True):
        axes.imshow(picture.float().mean(0).numpy(), cmap="gray", vmin=0, vmax=255)
        real, covered = _without_padding(weights, picture_share)
        shown = axes.imshow(
            real.numpy(),
            extent=(-0.5, width * covered[1] - 0.5, height * covered[0] - 0.5, -0.5),
            cmap="inferno",
            alpha=0.6,
            vmin=0,
            vmax=max(float(real.max()), 1e-12),
            interpolation="bilinear",
        )
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, color="white"))
        figure.colorbar(shown, ax=axes, shrink=0.8)
        axes.set_title(TITLES[key])
    for axes in (first, *others):
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
    return as_png(figure)


def _without_padding(
    weights: Float[Tensor, "rows columns"], picture_share: tuple[float, float]
) -> tuple[Float[Tensor, "real_rows real_columns"], tuple[float, float]]:
    """The cells that lie on the picture, and how many heights and widths of the picture they cover: 1 or a bit more."""
    spans = [cells * share for cells, share in zip(weights.shape, picture_share, strict=True)]
    rows, columns = (_cells(span) for span in spans)
    return weights[:rows, :columns], (rows / spans[0], columns / spans[1])


def _cells(span: float) -> int:
    """Cells that a stretch reaches into, if it is `span` cells long; rounding errors reach into none."""
    return max(1, math.ceil(span - 1e-6))

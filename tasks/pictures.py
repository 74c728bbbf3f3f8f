"""Users' pictures as a person sees them, heat over them, and sheets of panels."""

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

Picture = UInt8[Tensor, "3 height width"]

SIDE = 280
"""Pixels of a panel's longer side."""
GAP = 12
"""Pixels between panels."""
TEXT, SMALL = 13, 11
"""Pixels of a letter's height, in a title and in a note."""


class Panel(NamedTuple):
    """A picture with what is written above it.

    Attributes:
        title: What is shown.
        note: A second, smaller line.
        image: The picture.
    """

    title: str
    note: str
    image: Image.Image


def read_picture(path: Path) -> Picture:
    """Reads a picture in the pixels of its file: turned as its EXIF data say, as a person sees it."""
    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file)
        if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip
            image = Image.fromarray(((np.asarray(image).astype(np.int64) + 128) // 257).clip(0, 255).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return pil_to_tensor(image.convert("RGB"))


def plain(picture: Picture) -> Image.Image:
    """A picture in the size of a panel: `SIDE` and no less than an eighth of it. Small ones keep their pixels sharp."""
    height, width = picture.shape[1:]
    scale = SIDE / max(height, width)
    size = (max(round(width * scale), SIDE // 8), max(round(height * scale), SIDE // 8))
    image = Image.fromarray(picture.permute(1, 2, 0).numpy())
    return image.resize(size, Image.Resampling.BOX if scale > 1 else Image.Resampling.LANCZOS)


def in_panel(corners: Sequence[float], picture: Picture, image: Image.Image) -> tuple[float, float, float, float]:
    """Where corners `x1, y1, x2, y2` in a picture's pixels lie in its panel."""
    x, y = image.width / picture.shape[2], image.height / picture.shape[1]
    return corners[0] * x, corners[1] * y, corners[2] * x, corners[3] * y


def with_heat(
    image: Image.Image, heat: Float[Tensor, "rows columns"], part: tuple[float, float, float, float]
) -> Image.Image:
    """A panel in grey with heat over it, from 0 to its own greatest value; dark where no cell lies.

    Args:
        image: The panel.
        heat: Of the cells of a grid.
        part: Where the grid lies: corners `x1, y1, x2, y2` in the panel's pixels; it may reach beyond the panel.
    """
    left, top, right, bottom = map(round, part)
    values = Image.fromarray((heat / heat.max().clamp(min=1e-12)).float().numpy())
    values = values.resize((max(right - left, 1), max(bottom - top, 1)), Image.Resampling.NEAREST)
    placed = Image.new("F", image.size, -1.0)
    placed.paste(values, (left, top))
    share = np.asarray(placed)[..., None]
    grey = np.asarray(image.convert("L"), dtype=np.float32)[..., None]
    weight = 0.3 + 0.45 * share
    mixed = grey * (1 - weight) + _colours()[(share[..., 0].clip(0) * 255).astype(int)] * weight
    return Image.fromarray(np.where(share < 0, grey * 0.35, mixed).astype(np.uint8))


def sheet(rows: Sequence[Sequence[Panel]]) -> bytes:
    """Panels in rows, each under its title, and a scale of colours below, as PNG."""
    head, step = 2 * TEXT + 8, SIDE + GAP
    heights = [head + max(panel.image.height for panel in row) + GAP for row in rows]
    canvas = Image.new("RGB", (GAP + step * max(map(len, rows)), GAP + sum(heights) + 2 * TEXT), "white")
    draw, top = ImageDraw.Draw(canvas), GAP
    for row, height in zip(rows, heights, strict=True):
        for number, panel in enumerate(row):
            left = GAP + number * step
            draw.text((left, top), _fitting(panel.title, TEXT), "black", _font(TEXT))
            draw.text((left, top + TEXT + 3), _fitting(panel.note, SMALL), "dimgray", _font(SMALL))
            canvas.paste(panel.image, (left, top + head))
        top += height
    strip = Image.fromarray(np.tile(_colours().astype(np.uint8)[None], (TEXT, 1, 1)))
    canvas.paste(strip, (GAP + 3 * TEXT, top))
    draw.text((GAP, top - 1), "none", "black", _font(SMALL))
    draw.text((GAP + 3 * TEXT + strip.width + 6, top - 1), "the brightest", "black", _font(SMALL))
    content = io.BytesIO()
    canvas.save(content, format="PNG")
    return content.getvalue()


def _fitting(text: str, size: int) -> str:
    """A text in one line that is no wider than its panel."""
    text = " ".join(text.split())
    while _font(size).getlength(text) > SIDE:
        text = text[:-2] + "…"
    return text


@cache
def _colours() -> Float[np.ndarray, "256 3"]:
    from matplotlib import colormaps

    return (colormaps["inferno"](np.arange(256))[:, :3] * 255).astype(np.float32)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")), size)

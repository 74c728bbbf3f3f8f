"""Draws scenes of handwritten digits over clutter, and knows the box of each digit's visible ink."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

CANVAS = 128
SMALLEST, LARGEST = 12, 56  # pixels of a digit's longer side
MOST_DIGITS = 8
MOST_OVERLAP = 0.3  # intersection over union of two boxes
_LEAST_VISIBLE = 0.85  # share of a digit's ink that no later digit hides
_VISIBLE = 64  # of 255: fainter ink is left out, so that a box ends where a person sees it end
_NUM_TRIES = 40

Box = tuple[int, int, int, int]


class Digit(NamedTuple):
    """A digit of a scene: its place among the source pictures, and the box x1, y1, x2, y2 of its visible ink."""

    source: int
    box: Box


class _Candidate(NamedTuple):
    """A digit of some size at some place: its ink's opacity and the rows and columns that it takes."""

    source: int
    opacity: np.ndarray
    place: tuple[slice, slice]


def draw_scene(
    images: np.ndarray, sources: np.ndarray, random: np.random.Generator, *, size: int = CANVAS
) -> tuple[np.ndarray, list[Digit]]:
    """Draws a scene.

    1 to 8 digits, lighter than their ground, are scattered over it, at most 0.3 of box overlap between any two and
    each almost wholly visible. No stroke of the clutter could be a digit: it is longer than the largest or shorter than
    the smallest.

    Args:
        images: All source pictures, uint8 (digits, 28, 28), ink light.
        sources: Places of those that may be used.
        random: Where chance comes from.
        size: Height and width of the scene.

    Returns:
        uint8 (size, size), and the digits.
    """
    ground = int(random.integers(0, 96))
    scene = _clutter(ground, random, size)
    owner = np.zeros((size, size), np.uint8)  # whose ink each pixel shows
    inks: list[int] = []
    chosen: list[int] = []
    for number in range(1, int(random.integers(1, MOST_DIGITS + 1)) + 1):
        for candidate in _candidates(images, sources, random, size):
            ink = candidate.opacity > 0
            trial = owner.copy()
            trial[candidate.place][ink] = number
            if _fair(trial, [*inks, int(ink.sum())]):
                break
        else:
            break  # no room for another
        owner = trial
        inks.append(int(ink.sum()))
        chosen.append(candidate.source)
        shade = min(255, ground + int(random.integers(80, 161)))
        region = scene[candidate.place]
        region[:] = (region * (255 - candidate.opacity) + shade * candidate.opacity + 127) // 255
    noise = random.normal(0, random.uniform(2, 8), scene.shape).round().astype(np.int32)
    picture = (scene + noise).clip(0, 255).astype(np.uint8)
    return picture, [Digit(source, _box(owner == number)) for number, source in enumerate(chosen, start=1)]


def _clutter(ground: int, random: np.random.Generator, size: int) -> np.ndarray:
    """A ground of uneven shade with long and short strokes, int32."""
    shades = (ground + random.integers(-24, 25, (4, 4))).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(shades).resize((size, size), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(int(random.integers(1, 5))):
        start = end = random.integers(0, size, 2)
        while np.hypot(*(end - start)) <= LARGEST:
            start, end = random.integers(0, size, (2, 2))
        shade = ground + int(random.integers(20, 91))
        draw.line([*start.tolist(), *end.tolist()], fill=shade, width=int(random.integers(1, 3)))
    for _ in range(int(random.integers(2, 9))):
        start = random.integers(0, size, 2)
        end = start + random.integers(-SMALLEST // 3, SMALLEST // 3 + 1, 2)
        draw.line([*start.tolist(), *end.tolist()], fill=ground + int(random.integers(20, 91)), width=1)
    return np.asarray(image).astype(np.int32)


def _candidates(
    images: np.ndarray, sources: np.ndarray, random: np.random.Generator, size: int
) -> Iterator[_Candidate]:
    for _ in range(_NUM_TRIES):
        source = int(random.choice(sources))
        opacity = fit_digit(images[source], int(random.integers(SMALLEST, LARGEST + 1)))
        height, width = opacity.shape
        top, left = int(random.integers(size - height + 1)), int(random.integers(size - width + 1))
        yield _Candidate(source, opacity, (slice(top, top + height), slice(left, left + width)))


def fit_digit(image: np.ndarray, longer: int) -> np.ndarray:
    """Scales a digit so that the longer side of its ink is `longer` or a little less, and cuts it out along its ink.

    Args:
        image: uint8 (height, width), ink light.
        longer: Pixels.

    Returns:
        Opacity, int32 (height, width), with visible ink in the first and last row and column; 0 where there is none.
    """
    left, top, right, bottom = _box(image >= _VISIBLE)
    cut = Image.fromarray(image[top:bottom, left:right])
    scale = longer / max(cut.size)
    new_size = max(1, round(cut.width * scale)), max(1, round(cut.height * scale))
    opacity = np.asarray(cut.resize(new_size, Image.Resampling.BICUBIC)).astype(np.int32)
    opacity[opacity < _VISIBLE] = 0
    left, top, right, bottom = _box(opacity > 0)
    return opacity[top:bottom, left:right]


def _fair(owner: np.ndarray, inks: list[int]) -> bool:
    """Whether every digit of a scene can be seen, has the size it may have, and overlaps no other too much."""
    boxes: list[Box] = []
    for number, ink in enumerate(inks, start=1):
        mine = owner == number
        if np.count_nonzero(mine) < _LEAST_VISIBLE * ink:
            return False
        box = _box(mine)
        longer = max(box[2] - box[0], box[3] - box[1])
        if longer < SMALLEST or any(overlap(box, other) > MOST_OVERLAP for other in boxes):
            return False
        boxes.append(box)
    return True


def _box(ink: np.ndarray) -> Box:
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def overlap(one: Box, other: Box) -> float:
    """Intersection over union.

    >>> overlap((0, 0, 2, 2), (1, 0, 3, 2))
    0.3333333333333333
    """
    width = max(0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)

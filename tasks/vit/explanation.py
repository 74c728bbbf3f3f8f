"""Where a network looked for a picture's class: heat over the picture."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from core.explain import AttentionCall
from tasks.explanation import encoder_weights
from tasks.pictures import Panel, in_panel, plain, read_picture, sheet, with_heat
from tasks.vit.model import ViT

Maps = dict[str, Float[Tensor, "rows columns"]]
Part = tuple[float, float, float, float]
"""Corners `x1, y1, x2, y2` in pixels of the file's picture."""

TITLES = {"last_layer": "attention, last layer", "rollout": "attention rollout, all layers"}


def patch_weights(model: ViT, calls: Sequence[AttentionCall], image_size: tuple[int, int]) -> Maps:
    """The weights with which a picture's patches were seen by what the head reads: `last_layer` and `rollout`.

    That is the class token, or the mean of the patches. The weights sum to 1 less those of the class token and the
    registers, which have no place in the picture.

    Args:
        model: The network.
        calls: Of each layer, for this picture alone.
        image_size: Height and width of what the network got.
    """
    length, first = calls[0].q.shape[2], model.num_prefix
    reading = torch.zeros(1, 1, length, device=calls[0].q.device)
    if model.pool == "class":
        reading[..., 0] = 1
    else:
        reading[..., first:] = 1 / (length - first)
    grid = model.patch_embedding.grid(*image_size)
    return {name: each[0, 0, first:].unflatten(0, grid) for name, each in encoder_weights(calls, reading).items()}


def grid_part(model: ViT, shown: Sequence[float], image_size: tuple[int, int]) -> Part:
    """Where the grid of patches lies in the file's picture: from its first patch to the end of its last.

    Args:
        model: The network.
        shown: Where what the network got lies in the file's picture.
        image_size: Height and width of what the network got, which the last patches may exceed.
    """
    left, top, right, bottom = shown
    down, across = (
        cells * model.patch_embedding.patch_size / side
        for cells, side in zip(model.patch_embedding.grid(*image_size), image_size, strict=True)
    )
    return (left, top, left + (right - left) * across, top + (bottom - top) * down)


def draw(file: Path, weights: Maps, part: Part, *, label: str, probability: float) -> Iterator[tuple[str, bytes]]:
    """Draws one picture: the file's own, and each of the weights over it, on a scale from 0 to its own greatest.

    Args:
        file: The picture.
        weights: Of the patches.
        part: Where the grid of patches lies.
        label: The class that was predicted.
        probability: Its probability.
    """
    picture = read_picture(file)
    image = plain(picture)
    place = in_panel(part, picture, image)
    panels = [Panel(f"{label} ({100 * probability:.1f}%)", file.name, image)]
    for name, heat in weights.items():
        note = f"brightest patch: {100 * float(heat.max()):.1f}% of the attention"
        panels.append(Panel(TITLES[name], note, with_heat(image, heat, place)))
    yield "", sheet([panels])

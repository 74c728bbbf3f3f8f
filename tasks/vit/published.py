"""From a name or a file to a ViT's weights under our names, of whatever size they are."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from core.pretrained.timm_vit import encoder_weights
from tasks.errors import first_line
from tasks.weights import find_model, read_weights

_log = logging.getLogger(__name__)
_FILES = {".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".npz"}
_PROJECTION = {"timm": "patch_embed.proj.weight", "ours": "patch_embedding.projection.weight"}
_PREFIX_TOKENS = ("cls_token", "dist_token", "reg_token")
_RENAMED = {
    f"{theirs}.{end}": f"{ours}.{end}"
    for theirs, ours in [("patch_embed.proj", "patch_embedding.projection"), ("head", "head")]
    for end in ("weight", "bias")
}

Grid = tuple[int, int]


@dataclass(frozen=True)
class Checkpoint:
    """A ViT's weights under our names, and what they do not say themselves.

    Attributes:
        weights: Weights by name.
        grid: Rows and columns of the positions; None where it cannot be known.
        has_class_token: Whether the first prefix token is a class token; None where it cannot be known.
        num_heads: Number of heads; None where it cannot be known.
        eps: The norms' eps; None where it cannot be known.
    """

    weights: dict[str, Tensor]
    grid: Grid | None
    has_class_token: bool | None = None
    num_heads: int | None = None
    eps: float | None = None


def read_published(source: str, own_grid: Grid) -> Checkpoint:
    """Reads a file, or downloads what a name of timm's stands for.

    Args:
        source: A name or a file; see `tasks.vit.pretrained.load_pretrained`.
        own_grid: The grid of the model that waits for the weights: a file's positions may have it.

    Raises:
        ValueError: If there is nothing to read, or it is not the checkpoint of a ViT.
    """
    path = Path(source)
    if path.suffix not in _FILES and not path.exists():
        return _download(source)
    weights = read_weights(path)
    kind, prefix = find_model(weights, _PROJECTION, source, "a ViT")
    inside = {name[len(prefix) :]: weight for name, weight in weights.items() if name.startswith(prefix)}
    if left_out := len(weights) - len(inside):
        _log.info("%s: %d weights that do not begin with %r were left out", source, left_out, prefix)
    if kind == "timm":
        return _from_timm(inside, [None, own_grid], source)  # what is published was learned on squares
    cells = len(inside.get("position.weight", ()))
    return Checkpoint(inside, _grid(cells, own_grid) or _grid(cells, None))


def _download(name: str) -> Checkpoint:
    import timm
    from timm.models.vision_transformer import Block, VisionTransformer

    if not timm.is_model(name) and ":" not in name:
        raise ValueError(f"pretrained={name!r} is neither a file nor a name that timm knows")
    try:
        model = timm.create_model(name, pretrained=True)
    except Exception as error:  # hub, network and cache each have exceptions of their own
        raise ValueError(
            f"pretrained={name!r}: the download failed ({first_line(error)}); a local file can be given instead"
        ) from error
    if not isinstance(model, VisionTransformer) or any(type(block) is not Block for block in model.blocks):
        raise ValueError(f"pretrained={name!r} is not of timm's ViT family with pre-norm blocks")
    block = cast(Block, model.blocks[0])
    activation = getattr(block.mlp, "act", None)
    if not isinstance(activation, nn.GELU) or activation.approximate != "none":
        raise ValueError(f"pretrained={name!r} has the activation {activation}; only the exact GELU is supported")
    checkpoint = _from_timm(model.state_dict(), [model.patch_embed.grid_size], name)
    num_heads = cast(int, block.attn.num_heads)
    return replace(checkpoint, num_heads=num_heads, eps=getattr(block.norm1, "eps", None))


def _from_timm(weights: Mapping[str, Tensor], grids: Sequence[Grid | None], source: str) -> Checkpoint:
    """Renames timm's weights; `grids` are those that the positions may have, the likeliest first (None: a square)."""
    encoder, rest = encoder_weights(weights)
    _unify_dinov2(rest)
    if rest.pop("head_dist.weight", None) is not None:
        rest.pop("head_dist.bias", None)
        _log.info("%s: the head on the distillation token was left out; logits are the class token's alone", source)
    foreign = sorted(set(rest) - {"pos_embed", *_PREFIX_TOKENS, *_RENAMED})
    if foreign:
        more = f" and {len(foreign) - 6} more" if len(foreign) > 6 else ""
        raise ValueError(f"pretrained={source!r} has weights without a place here: {', '.join(foreign[:6])}{more}")
    for name, there in [("pos_embed", rest), ("norm.weight", encoder)]:
        if name not in there:
            raise ValueError(f"pretrained={source!r} has no {name}: only learned positions and a last norm are known")
    up, down = (encoder.get(f"layers.0.feedforward.linear{i}.weight") for i in (1, 2))
    if up is not None and down is not None and up.shape[0] != down.shape[1]:
        raise ValueError(f"pretrained={source!r} has gated feed-forward networks (SwiGLU), which have no place here")
    ours = {f"encoder.{name}": weight for name, weight in encoder.items()}
    ours |= {_RENAMED[name]: weight for name, weight in rest.items() if name in _RENAMED}
    prefix = [rest[name][0].float() for name in _PREFIX_TOKENS if name in rest]  # half precision is not for sums
    tokens = torch.cat(prefix) if prefix else None
    positions = rest["pos_embed"][0].float()
    grid, covered = _split(len(positions), 0 if tokens is None else len(tokens), grids, source)
    if tokens is not None:
        # Our positions are the patches' only: those of the other tokens are added to the tokens themselves.
        ours["prefix_tokens"] = tokens + positions[:covered] if covered else tokens
    ours["position.weight"] = positions[covered:]
    return Checkpoint(ours, grid, has_class_token="cls_token" in rest)


def _unify_dinov2(rest: dict[str, Tensor]) -> None:
    """Gives DINOv2's own names timm's; its positions begin with the class token's and have none of the registers."""
    rest.pop("mask_token", None)  # stood for masked patches during training only
    if "register_tokens" in rest and "cls_token" in rest and "pos_embed" in rest:
        positions = rest["pos_embed"]
        rest["reg_token"] = rest.pop("register_tokens")
        rest["cls_token"] = rest["cls_token"].float() + positions[:, :1].float()
        rest["pos_embed"] = positions[:, 1:]


def _split(length: int, num_prefix: int, grids: Sequence[Grid | None], source: str) -> tuple[Grid, int]:
    """Finds the grid, and how many positions before it are those of prefix tokens: all or none of these have one."""
    for candidate in grids:
        for covered in (num_prefix, 0):
            if grid := _grid(length - covered, candidate):
                return grid, covered
    raise ValueError(f"pretrained={source!r} has {length} positions: neither a square's nor those of the model's grid")


def _grid(cells: int, candidate: Grid | None) -> Grid | None:
    """The candidate (a square if None) if it has so many cells."""
    rows, columns = candidate or (math.isqrt(max(cells, 0)),) * 2
    return (rows, columns) if cells > 0 and rows * columns == cells else None

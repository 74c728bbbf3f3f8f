"""Pretrained weights for the ViT: what must fit, what is adapted, what stays fresh."""

import logging
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from core import EncoderLayer
from core.position import resample_grid
from tasks.vit.published import Checkpoint, read_published
from tasks.weights import check_settings, last_number, load_weights, of_mechanism

if TYPE_CHECKING:
    from tasks.vit.model import ViT

_log = logging.getLogger(__name__)
_PROJECTION = "patch_embedding.projection.weight"


def load_pretrained(model: "ViT", source: str) -> None:
    """Starts a ViT from published weights.

    Positions are resampled to the model's grid and the patch projection is adapted to its number of channels. With
    another number of classes the head keeps its fresh weights, and so do the parameters of an attention mechanism
    that the checkpoint does not have. All else must fit. A file does not show the number of heads, the activation
    (timm's is the exact GELU) and the eps of the norms (timm's is 1e-6: `norm=functools.partial(nn.LayerNorm,
    eps=1e-6)` gives its very numbers).

    Args:
        model: The ViT, changed in place.
        source: A name of timm's ViT family, whose weights are then downloaded, or a file: `.safetensors`, or what
            `torch.save` wrote, under the names of timm, of DINOv2 as published, or of our own checkpoints.

    Raises:
        ValueError: If the source cannot be read or downloaded, or its weights do not fit.
    """
    checkpoint = read_published(source, model.position.grid_size)
    _check_settings(model, checkpoint, source)
    weights = _adapt(model, checkpoint, source)
    own = model.state_dict()
    for name in set(own) - set(weights):
        if name.endswith(".bias") and "norm" not in name and name.removesuffix("bias") + "weight" in weights:
            weights[name] = torch.zeros_like(own[name])  # a projection without a bias has one of zero
    fresh = {name for name in own if name.startswith("head.") or of_mechanism(name)} - set(weights)
    load_weights(model, weights, fresh, source)


def _check_settings(model: "ViT", checkpoint: Checkpoint, source: str) -> None:
    """Refuses in one line all arguments that the checkpoint needs otherwise."""
    own, theirs = _settings(model.state_dict()), _settings(checkpoint.weights)
    layer = cast(EncoderLayer, model.encoder.layers[0])
    if checkpoint.num_heads is not None:
        own["encoder.num_heads"] = layer.attention.num_heads
        theirs["encoder.num_heads"] = checkpoint.num_heads
    if own["encoder.bias"]:
        theirs["encoder.bias"] = True  # biases of zero will do
    num_class = int(model.pool == "class")
    own["num_register_tokens"] -= num_class
    if num_class and (checkpoint.has_class_token is False or not theirs["num_register_tokens"]):
        own["pool"], theirs["pool"] = "class", "no class token (use mean)"
    else:
        theirs["num_register_tokens"] -= num_class
        if checkpoint.has_class_token and not num_class and own["num_register_tokens"] < theirs["num_register_tokens"]:
            theirs["num_register_tokens"] = f"{theirs['num_register_tokens']}, its class token among them"
    check_settings(own, theirs, source)
    eps = getattr(layer.attention_residual.norm, "eps", None)
    if checkpoint.eps is not None and eps != checkpoint.eps:
        _log.info("%s: its norms have eps=%g, encoder.norm has eps=%s", source, checkpoint.eps, eps)


def _settings(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The constructor's arguments, as a model's weights show them; all prefix tokens count as registers."""
    hidden = weights.get("encoder.layers.0.feedforward.linear1.weight", ())
    return {
        "encoder.embed_dim": len(weights[_PROJECTION]),
        "encoder.num_layers": 1 + last_number(weights, r"encoder\.layers\.(\d+)\."),
        "encoder.ffn_dim": len(hidden),
        "encoder.norm_first": "encoder.norm.weight" in weights,
        "encoder.layer_scale": "a number" if any("_residual.layer_scale." in name for name in weights) else None,
        "encoder.bias": any(re.search(r"\.attention\.(in|out)_proj\.bias$", name) for name in weights),
        "patch_size": weights[_PROJECTION].shape[-1],
        "num_register_tokens": len(weights.get("prefix_tokens", ())),
    }


def _adapt(model: "ViT", checkpoint: Checkpoint, source: str) -> dict[str, Tensor]:
    """Fits what may differ: the classes, the size of the picture and the channels."""
    weights = dict(checkpoint.weights)
    num_classes = model.head.out_features
    if "head.weight" in weights and len(weights["head.weight"]) != num_classes:
        reason = f"its head has {len(weights['head.weight'])} classes, num_classes={num_classes}"
    elif checkpoint.has_class_token and model.pool == "mean":
        reason = "its head reads the class token, and pool=mean"
    else:
        reason = ""
    if reason:
        _log.info("%s: %s: the head stays fresh", source, reason)
        weights = {name: weight for name, weight in weights.items() if not name.startswith("head.")}
    if "position.weight" in weights:
        if checkpoint.grid is None:
            raise ValueError(
                f"pretrained={source!r} has {len(weights['position.weight'])} positions: neither a square's nor those "
                f"of the model's grid {model.position.grid_size}; set image_size to that of the checkpoint"
            )
        weights["position.weight"] = resample_grid(
            weights["position.weight"], checkpoint.grid, model.position.grid_size
        )
    weights[_PROJECTION] = _adapt_channels(weights[_PROJECTION], model.patch_embedding.projection.in_channels)
    return weights


def _adapt_channels(weight: Tensor, num_channels: int) -> Tensor:
    """Sums the channels for one, else repeats them so that their sum over equal channels stays, as timm does."""
    old = weight.shape[1]
    if num_channels == old:
        return weight
    if num_channels == 1:
        return weight.float().sum(1, keepdim=True).to(weight.dtype)
    repeated = weight.float().repeat(1, math.ceil(num_channels / old), 1, 1)[:, :num_channels]
    return (repeated * (old / num_channels)).to(weight.dtype)

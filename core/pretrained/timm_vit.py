"""The names of timm's pre-norm ViT blocks, as those of an `Encoder`. Names only: the tensors have the same layout."""

import re
from collections.abc import Mapping

from torch import Tensor

_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)\.(weight|bias|gamma)")
_PARTS = {
    "norm1": "attention_residual.norm",
    "attn.qkv": "attention.in_proj",
    "attn.proj": "attention.out_proj",
    "ls1": "attention_residual.layer_scale",
    "norm2": "feedforward_residual.norm",
    "mlp.fc1": "feedforward.linear1",
    "mlp.fc2": "feedforward.linear2",
    "ls2": "feedforward_residual.layer_scale",
}


def encoder_weights(checkpoint: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Splits a checkpoint into an `Encoder`'s weights, under its names, and all others, under their own.

    A weight of a block that the encoder has no place for (a norm of queries, a gated MLP, ...) is among the others:
    who loads must place or refuse it.

    Args:
        checkpoint: Weights as timm's `VisionTransformer` names them: `blocks.0.attn.qkv.weight`, ..., `norm.bias`.

    Returns:
        The encoder's weights, and the others.

    >>> import torch
    >>> names = ["blocks.3.attn.qkv.bias", "blocks.3.ls2.gamma", "norm.bias", "blocks.3.attn.q_norm.weight"]
    >>> ours, others = encoder_weights({name: torch.zeros(1) for name in names})
    >>> list(ours)
    ['layers.3.attention.in_proj.bias', 'layers.3.feedforward_residual.layer_scale.weight', 'norm.bias']
    >>> list(others)
    ['blocks.3.attn.q_norm.weight']
    """
    ours, others = {}, {}
    for name, weight in checkpoint.items():
        renamed = _rename(name)
        if renamed is None:
            others[name] = weight
        else:
            ours[renamed] = weight
    return ours, others


def _rename(name: str) -> str | None:
    if name in ("norm.weight", "norm.bias"):
        return name
    # DeiT III publishes LayerScale as a parameter of the block, timm as a module's.
    name = re.sub(r"\.gamma_([12])$", r".ls\1.gamma", name)
    match = _BLOCK.fullmatch(name)
    if match is None or match[2] not in _PARTS or (match[3] == "gamma") != match[2].startswith("ls"):
        return None
    return f"layers.{match[1]}.{_PARTS[match[2]]}.{'weight' if match[3] == 'gamma' else match[3]}"

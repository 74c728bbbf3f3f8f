"""The names of DETR's published Transformers, as those of an `Encoder` and a `Decoder`.

facebookresearch/detr names its layers as `torch.nn.Transformer` does; transformers has names of its own, older ones and
those since its version 5, and keeps queries, keys and values apart.
"""

import re
from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

_NAME = re.compile(r"(encoder|decoder)\.(?:layers\.(\d+)\.)?(.+)[._](weight|bias)")
_SPLIT = re.compile(r"(.+)\.([qkv])_proj\.(weight|bias)")
_ATTENTIONS = {"self_attn": "attention", "multihead_attn": "cross_attention", "encoder_attn": "cross_attention"}
_PROJECTIONS = {name: name for name in ("in_proj", "q_proj", "k_proj", "v_proj", "out_proj")} | {"o_proj": "out_proj"}
_PARTS = {
    f"{attention}.{projection}": f"{ours}.{part}"
    for attention, ours in _ATTENTIONS.items()
    for projection, part in _PROJECTIONS.items()
} | {
    "linear1": "feedforward.linear1",
    "linear2": "feedforward.linear2",
    "fc1": "feedforward.linear1",
    "fc2": "feedforward.linear2",
    "mlp.fc1": "feedforward.linear1",
    "mlp.fc2": "feedforward.linear2",
    "self_attn_layer_norm": "attention_residual.norm",
    "encoder_attn_layer_norm": "cross_attention_residual.norm",
    "final_layer_norm": "feedforward_residual.norm",
}
_NORMS = {
    "encoder": {"norm1": "attention_residual.norm", "norm2": "feedforward_residual.norm"},
    "decoder": {
        "norm1": "attention_residual.norm",
        "norm2": "cross_attention_residual.norm",
        "norm3": "feedforward_residual.norm",
    },
}


def transformer_weights(checkpoint: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Splits a checkpoint into the weights of `encoder` and `decoder`, under our names, and others, under their own.

    The norm after the last layer is `decoder.norm` (`encoder.norm`), which only a pre-norm `Decoder` has: who loads
    must place it. So must he place or refuse the others.

    Args:
        checkpoint: Weights as they are named inside the published Transformer: `encoder.layers.0.linear1.weight`, ...

    Returns:
        The weights of encoder and decoder, and the others.

    >>> names = ["decoder.layers.3.multihead_attn.in_proj_bias", "decoder.layernorm.bias", "query_embed.weight"]
    >>> ours, others = transformer_weights({name: torch.zeros(3) for name in names})
    >>> list(ours), list(others)
    (['decoder.layers.3.cross_attention.in_proj.bias', 'decoder.norm.bias'], ['query_embed.weight'])
    >>> names = [f"encoder.layers.0.self_attn.{part}_proj.bias" for part in "kvq"]
    >>> ours, others = transformer_weights({name: torch.full((1,), ord(name[-11])) for name in names})
    >>> "".join(map(chr, ours["encoder.layers.0.attention.in_proj.bias"]))
    'qkv'
    """
    ours, others = {}, {}
    apart: dict[str, dict[str, tuple[str, Tensor]]] = defaultdict(dict)
    for name, weight in checkpoint.items():
        renamed = _rename(name)
        if renamed is None:
            others[name] = weight
        elif match := _SPLIT.fullmatch(renamed):
            apart[f"{match[1]}.in_proj.{match[3]}"][match[2]] = name, weight
        else:
            ours[renamed] = weight
    for renamed, parts in apart.items():
        if len(parts) == 3:
            ours[renamed] = torch.cat([parts[letter][1] for letter in "qkv"])
        else:
            others |= dict(parts.values())
    return ours, others


def _rename(name: str) -> str | None:
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    stack, layer, part, end = match.groups()
    if layer is None:
        return f"{stack}.norm.{end}" if part in ("norm", "layernorm") else None
    ours = _PARTS.get(part) or _NORMS[stack].get(part)
    return None if ours is None else f"{stack}.layers.{layer}.{ours}.{end}"

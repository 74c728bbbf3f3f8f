"""The names of Whisper's published Transformers, as those of an `Encoder` and a `Decoder`.

openai/whisper names its layers in a way of its own; transformers names them as it does DETR's.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from core.pretrained import detr

_OPENAI = {
    "attn.query": "self_attn.q_proj",
    "attn.key": "self_attn.k_proj",
    "attn.value": "self_attn.v_proj",
    "attn.out": "self_attn.out_proj",
    "attn_ln": "self_attn_layer_norm",
    "cross_attn.query": "encoder_attn.q_proj",
    "cross_attn.key": "encoder_attn.k_proj",
    "cross_attn.value": "encoder_attn.v_proj",
    "cross_attn.out": "encoder_attn.out_proj",
    "cross_attn_ln": "encoder_attn_layer_norm",
    "mlp.0": "fc1",
    "mlp.2": "fc2",
    "mlp_ln": "final_layer_norm",
}
"""The parts of a layer, as transformers has them."""


def transformer_weights(checkpoint: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Splits a checkpoint into the weights of `encoder` and `decoder`, under our names, and others, under their own.

    Whisper's keys have no bias. Ours is one with those of queries and values: its part for the keys is zeros, which
    change nothing; nor could any other value, since the softmax over keys is blind to what they have in common.

    Args:
        checkpoint: Weights as openai/whisper (`encoder.blocks.0.attn.query.weight`, ...) or transformers
            (`encoder.layers.0.self_attn.q_proj.weight`, ...) name them.

    Returns:
        The weights of encoder and decoder, and the others.

    >>> names = [f"decoder.blocks.1.cross_attn.{part}.bias" for part in ("query", "value")]
    >>> names += ["decoder.blocks.1.cross_attn.key.weight", "decoder.ln.bias", "encoder.conv1.bias"]
    >>> ours, others = transformer_weights({name: torch.ones(2) for name in names})
    >>> ours["decoder.layers.1.cross_attention.in_proj.bias"].tolist()
    [1.0, 1.0, 0.0, 0.0, 1.0, 1.0]
    >>> "decoder.norm.bias" in ours, sorted(others)
    (True, ['decoder.layers.1.encoder_attn.k_proj.weight', 'encoder.conv1.bias'])
    """
    named = {_rename(name): weight for name, weight in checkpoint.items()}
    for name, weight in list(named.items()):
        if name.endswith(".k_proj.weight"):
            named.setdefault(name.removesuffix("weight") + "bias", torch.zeros(len(weight), dtype=weight.dtype))
    return detr.transformer_weights(named)


def _rename(name: str) -> str:
    name = re.sub(r"^(encoder|decoder)\.(?:ln_post|ln|layer_norm)\.", r"\1.layernorm.", name)
    match = re.fullmatch(r"(encoder|decoder)\.blocks\.(\d+)\.(.+)\.(weight|bias)", name)
    if match is None:
        return name
    stack, layer, part, end = match.groups()
    return f"{stack}.layers.{layer}.{_OPENAI.get(part, part)}.{end}"

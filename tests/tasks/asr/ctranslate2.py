"""Reads a Whisper in CTranslate2's binary format (version 6), as openai/whisper names its weights.

A file is: version, specification's name and revision, number of variables; of each variable its name, rank, sizes,
type, bytes and values; then aliases. Numbers are little-endian, names have their length before them and end in NUL.
"""

import re
import struct

import numpy as np
import torch
from torch import Tensor

_FLOAT16 = 4
_PARTS = {
    "self_attention/layer_norm": ["attn_ln"],
    "self_attention/linear_0": ["attn.query", "attn.key", "attn.value"],
    "self_attention/linear_1": ["attn.out"],
    "attention/layer_norm": ["cross_attn_ln"],
    "attention/linear_0": ["cross_attn.query"],
    "attention/linear_1": ["cross_attn.key", "cross_attn.value"],
    "attention/linear_2": ["cross_attn.out"],
    "ffn/layer_norm": ["mlp_ln"],
    "ffn/linear_0": ["mlp.0"],
    "ffn/linear_1": ["mlp.2"],
}
_OTHERS = {
    "encoder/position_encodings/encodings": "encoder.positional_embedding",
    "decoder/position_encodings/encodings": "decoder.positional_embedding",
    "decoder/embeddings/weight": "decoder.token_embedding.weight",
    "encoder/layer_norm/gamma": "encoder.ln_post.weight",
    "encoder/layer_norm/beta": "encoder.ln_post.bias",
    "decoder/layer_norm/gamma": "decoder.ln.weight",
    "decoder/layer_norm/beta": "decoder.ln.bias",
} | {f"encoder/conv{i}/{end}": f"encoder.conv{i}.{end}" for i in (1, 2) for end in ("weight", "bias")}
_ENDS = {"gamma": "weight", "beta": "bias", "weight": "weight", "bias": "bias"}


def read_whisper(content: bytes) -> dict[str, Tensor]:
    """The weights of a file, in half precision."""
    weights: dict[str, Tensor] = {}
    for name, value in _read_variables(content).items():
        match = re.fullmatch(r"(encoder|decoder)/layer_(\d+)/(.+)/(\w+)", name)
        if match is None:
            weights[_OTHERS[name]] = value
            continue
        stack, layer, part, end = match.groups()
        parts = _PARTS[part]
        for ours, piece in zip(parts, value.chunk(len(parts)), strict=True):
            weights[f"{stack}.blocks.{layer}.{ours}.{_ENDS[end]}"] = piece.clone()
    return {name: weight for name, weight in weights.items() if not name.endswith(".key.bias")}  # they are zeros


def _read_variables(content: bytes) -> dict[str, Tensor]:
    place = 0

    def take(kind: str) -> int:
        nonlocal place
        (number,) = struct.unpack_from(f"<{kind}", content, place)
        place += struct.calcsize(f"<{kind}")
        return number

    def take_name() -> str:
        nonlocal place
        length = take("H")
        place += length
        return content[place - length : place - 1].decode()

    assert (take("I"), take_name(), take("I")) == (6, "WhisperSpec", 3)
    variables = {}
    for _ in range(take("I")):
        name, sizes = take_name(), [take("I") for _ in range(take("B"))]
        kind, length = take("B"), take("I")
        if kind == _FLOAT16:  # all else are settings
            values = np.frombuffer(content, "<f2", length // 2, place).reshape(sizes)
            variables[name] = torch.from_numpy(values.copy())
        place += length
    return variables

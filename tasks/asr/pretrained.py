"""Pretrained weights for speech recognition: Whisper's as published, and those of earlier runs."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from core.pretrained.whisper import transformer_weights
from tasks.weights import (
    check_settings,
    find_model,
    load_weights,
    of_mechanism,
    read_weights,
    stack_activation,
    stack_settings,
)

if TYPE_CHECKING:
    from tasks.asr.model import ASR

_log = logging.getLogger(__name__)
_MARKS = {"published": "encoder.conv1.weight", "ours": "encoder.layers.0.attention.in_proj.weight"}
_RENAMED = {
    "encoder.positional_embedding": "position.weight",
    "encoder.embed_positions.weight": "position.weight",
    "decoder.positional_embedding": "tokens.position.weight",
    "decoder.embed_positions.weight": "tokens.position.weight",
    "decoder.token_embedding.weight": "tokens.embedding.weight",
    "decoder.embed_tokens.weight": "tokens.embedding.weight",
    "proj_out.weight": "tokens.head.weight",
} | {f"encoder.conv{i + 1}.{end}": f"subsampling.stages.{i}.{end}" for i in range(2) for end in ("weight", "bias")}
"""What stands beside the Transformer, as openai/whisper or transformers names it."""


def load_pretrained(model: "ASR", source: str) -> None:
    """Starts a recogniser from Whisper's published weights, or from those of an earlier run.

    A CTC head that the file does not have stays fresh, and so do the parameters of an attention mechanism. A
    recogniser by CTC alone takes the encoder. All else must fit. A file does not show the number of heads, nor which
    numbers the prompt's tokens have. Whisper's keys and its output head have no bias: ours are zeros. That of the head
    learns in fine-tuning; that of the keys never does, since it changes nothing.

    Args:
        model: The recogniser, changed in place.
        source: A file: `.safetensors`, or what `torch.save` wrote (`.pt`, `.bin`, `.ckpt`), under the names of
            openai/whisper, of transformers' `WhisperForConditionalGeneration`, or of our own checkpoints.

    Raises:
        ValueError: If the file cannot be read, or its weights do not fit.
    """
    weights = read_weights(Path(source))
    kind, prefix = find_model(weights, _MARKS, source, "a recogniser")
    inside = {name[len(prefix) :]: weight for name, weight in weights.items() if name.startswith(prefix)}
    if kind == "published":
        # In transformers the output head stands beside the `model`.
        if (head := weights.get(f"{prefix.removesuffix('model.')}proj_out.weight")) is not None:
            inside["proj_out.weight"] = head
        inside = _from_published(inside)
    if model.tokens is None and any(name.startswith("decoder.") for name in inside):
        _log.info("%s: attention_weight=0: its decoder is left out", source)
        inside = {name: weight for name, weight in inside.items() if not name.startswith(("decoder.", "tokens."))}
    _check_settings(model, inside, source, is_published=kind == "published")
    own = model.state_dict()
    inside = {name: weight for name, weight in own.items() if name.startswith("features.")} | inside
    fresh = {name for name in set(own) - set(inside) if name.startswith("ctc_head.") or of_mechanism(name)}
    load_weights(model, inside, fresh, source)


def _from_published(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    ours, others = transformer_weights(weights)
    ours |= {_RENAMED.get(name, name): weight for name, weight in others.items()}
    embedding = ours.get("tokens.embedding.weight")
    if embedding is not None:
        ours.setdefault("tokens.head.weight", embedding)
        ours["tokens.head.bias"] = torch.zeros(len(embedding), dtype=embedding.dtype)
    return ours


def _check_settings(model: "ASR", weights: Mapping[str, Tensor], source: str, *, is_published: bool) -> None:
    """Refuses in one line all arguments that the checkpoint needs otherwise."""
    own, theirs = _settings(model.state_dict()), _settings(weights)
    if not own.get("tokens.tied"):
        theirs.pop("tokens.tied", None)  # a head of its own can start as the embedding
    if is_published:
        own |= _hidden_settings(model)
        theirs |= dict.fromkeys((name for name in own if name.endswith(".activation")), "GELU")
        theirs |= {"features": "WhisperLogMel", "subsampling.strides": [1, 2], "tokens.scaled": False}
    check_settings(own, theirs, source)


def _settings(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The constructor's arguments, as a model's weights show them."""
    settings: dict[str, Any] = {}
    for stack in ("encoder", "decoder"):
        if f"{stack}.layers.0.feedforward.linear1.weight" in weights:
            settings |= stack_settings(weights, stack)
    if (stem := weights.get("subsampling.stages.0.weight")) is not None:
        settings |= {"features.num_mels": stem.shape[1], "subsampling.kernel_size": stem.shape[2]}
    settings["position.num_positions"] = len(weights.get("position.weight", ()))
    if (embedding := weights.get("tokens.embedding.weight")) is not None:
        settings["vocab_size + tokens.num_special"] = len(embedding)
        settings["tokens.position.num_positions"] = len(weights.get("tokens.position.weight", ()))
        settings["tokens.tied"] = torch.equal(embedding, weights.get("tokens.head.weight", embedding))
    return settings


def _hidden_settings(model: "ASR") -> dict[str, Any]:
    """Those that no weight shows."""
    settings: dict[str, Any] = {"features": type(model.features).__name__}
    settings["subsampling.strides"] = list(model.subsampling.strides)
    for name, stack in {"encoder": model.encoder, "decoder": model.decoder}.items():
        if stack is not None:
            settings[f"{name}.activation"] = stack_activation(stack)
    if model.tokens is not None:
        settings["tokens.scaled"] = model.tokens.scale != 1
    return settings

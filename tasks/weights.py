"""Pretrained weights of any task: reading a file safely, and refusing in one line what does not fit."""

import logging
import pickle
import re
from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core import Decoder, DecoderLayer, Encoder, EncoderLayer
from tasks.errors import first_line

_log = logging.getLogger(__name__)
_MECHANISM = re.compile(r"\.(cross_)?attention\.attention\.")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads all weights of a file; those of a training run lie under `state_dict`, `model_state_dict` or `model`.

    Args:
        path: `.safetensors`, or what `torch.save` wrote: nothing in it is run.

    Raises:
        ValueError: If there is no such file, or it cannot be read.
    """
    if not path.is_file():
        raise ValueError(f"pretrained={str(path)!r}: there is no such file")
    if path.suffix == ".npz":
        raise ValueError(f"pretrained={str(path)!r}: JAX's .npz is not supported, only files of torch and safetensors")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content = load_file(path)
        else:
            # Training scripts keep their parsed arguments beside the weights: plain values.
            with torch.serialization.safe_globals([Namespace]):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # foreign bytes can fail in any way
        hint = " as plain weights" if isinstance(error, pickle.UnpicklingError) else ""
        raise ValueError(f"pretrained={str(path)!r} cannot be read{hint}: {first_line(error)}") from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    weights = content.items() if isinstance(content, Mapping) else ()
    return {str(name): weight for name, weight in weights if isinstance(weight, Tensor)}


def find_model(weights: Mapping[str, Tensor], marks: Mapping[str, str], source: str, model: str) -> tuple[str, str]:
    """Finds a model among weights by a name that it must have.

    Args:
        weights: All weights of a file.
        marks: For each kind of names (who gave them) one that it has.
        source: Where the weights come from.
        model: What is looked for, as `a DETR`.

    Returns:
        The kind, and the prefix (`module.`, `model.`) that the model's names share.

    Raises:
        ValueError: If there is none, or several.
    """
    found = []
    for kind, mark in marks.items():
        found += [(kind, name.removesuffix(mark)) for name in weights if ("." + name).endswith("." + mark)]
    if len(found) > 1:  # a run has its network under the task's name too, and may keep an average or a teacher beside
        found = [(kind, prefix) for kind, prefix in found if prefix in ("", "model.", "network.")] or found
    if not found:
        raise ValueError(
            f"pretrained={source!r} is not {model}'s checkpoint: it has none of {', '.join(marks.values())}"
        )
    if len(found) > 1:
        raise ValueError(f"pretrained={source!r} holds several models: {', '.join(prefix for _, prefix in found)}")
    return found[0]


def of_mechanism(name: str) -> bool:
    """Whether a weight is of the mechanism inside a layer's `MultiHeadAttention`: another mechanism has others."""
    return _MECHANISM.search(name) is not None


def stack_settings(weights: Mapping[str, Tensor], stack: str) -> dict[str, Any]:
    """The arguments of an encoder or a decoder, as a model's weights show them; None where they do not.

    Args:
        weights: All weights of the model.
        stack: `encoder` or `decoder`.
    """
    hidden = weights.get(f"{stack}.layers.0.feedforward.linear1.weight")
    return {
        f"{stack}.embed_dim": None if hidden is None else hidden.shape[1],
        f"{stack}.ffn_dim": None if hidden is None else hidden.shape[0],
        f"{stack}.num_layers": 1 + last_number(weights, rf"{stack}\.layers\.(\d+)\."),
        f"{stack}.norm_first": f"{stack}.norm.weight" in weights,
    }


def stack_activation(stack: Encoder | Decoder) -> str:
    """The name of an encoder's or a decoder's activation, which no weight shows."""
    layer = stack.layers[0]
    assert isinstance(layer, EncoderLayer | DecoderLayer)
    return type(layer.feedforward.activation).__name__


def last_number(weights: Iterable[str], pattern: str) -> int:
    """The largest number that the pattern finds at the start of a name; -1 if it finds none."""
    return max((int(match[1]) for name in weights if (match := re.match(pattern, name))), default=-1)


def check_settings(own: Mapping[str, Any], theirs: Mapping[str, Any], source: str) -> None:
    """Refuses in one line all arguments that a checkpoint needs otherwise.

    Args:
        own: The model's arguments by name.
        theirs: The checkpoint's; what the model does not have is not compared.
        source: Where the weights come from.

    Raises:
        ValueError: If one differs.
    """
    wrong = [
        f"{name}={own[name]}, but the checkpoint has {value}"
        for name, value in theirs.items()
        if name in own and value != own[name]
    ]
    if wrong:
        raise ValueError(f"pretrained={source!r} does not fit: {'; '.join(wrong)}")


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], fresh: set[str], source: str) -> None:
    """Loads weights that must fit, and says which of the model's own stay.

    Args:
        model: Changed in place.
        weights: What is loaded.
        fresh: Names that may be missing: they keep what the model has.
        source: Where the weights come from.

    Raises:
        ValueError: If a name has no place, is missing, or has another shape.
    """
    _check_names(model.state_dict(), weights, fresh, source)
    model.load_state_dict(weights, strict=False)
    if fresh:
        _log.info("%s: fresh stay %s", source, ", ".join(sorted(fresh)))


def _check_names(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], fresh: set[str], source: str) -> None:
    """Refuses what would be ignored, and what would stay random or not fit."""
    problems = {
        "has weights without a place here": sorted(set(weights) - set(own)),
        "lacks": sorted(set(own) - set(weights) - fresh),
        "has another shape for": sorted(
            f"{name} ({tuple(weights[name].shape)}, needed is {tuple(own[name].shape)})"
            for name in set(own) & set(weights)
            if own[name].shape != weights[name].shape
        ),
    }
    for problem, names in problems.items():
        if names:
            more = f" and {len(names) - 6} more" if len(names) > 6 else ""
            raise ValueError(f"pretrained={source!r} {problem}: {', '.join(names[:6])}{more}")

"""Pretrained weights for forecasting: transformers' PatchTST, and those of earlier runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from core import BatchNorm
from core.pretrained.patchtst import encoder_weights
from tasks.weights import check_settings, find_model, load_weights, of_mechanism, read_weights, stack_settings

if TYPE_CHECKING:
    from tasks.forecast.model import Forecaster

_MARKS = {
    "published": "encoder.embedder.input_embedding.weight",
    "ours": "encoder.layers.0.attention.in_proj.weight",
}
_RENAMED = {
    "encoder.embedder.input_embedding.weight": "tokens.embedding.weight",
    "encoder.embedder.input_embedding.bias": "tokens.embedding.bias",
    "encoder.positional_encoder.position_enc": "tokens.position.weight",
}
"""What stands beside the layers, as transformers names it."""


def load_pretrained(model: "Forecaster", source: str) -> None:
    """Starts a forecaster from the weights of transformers' `PatchTSTForPrediction`, or from those of an earlier run.

    The parameters of an attention mechanism that the file does not have stay fresh. All else must fit. Of what is
    published only the plain form has a place here: embedding and head shared by the channels, no class token, no
    attention between channels, the head reading all patches. A file does not show the number of heads, the stride,
    whether layers are pre-norm, nor the activation; a missing value there is a normalised zero, here the mean.

    Args:
        model: The forecaster, changed in place.
        source: A file: `.safetensors`, or what `torch.save` wrote (`.pt`, `.bin`, `.ckpt`).

    Raises:
        ValueError: If the file cannot be read, or its weights do not fit.
    """
    weights = read_weights(Path(source))
    kind, prefix = find_model(weights, _MARKS, source, "a forecaster")
    inside = {name[len(prefix) :]: weight for name, weight in weights.items() if name.startswith(prefix)}
    if kind == "published":
        inside, others = encoder_weights(inside)
        inside |= {_RENAMED.get(name, name): weight for name, weight in others.items()}
        outer = prefix.removesuffix("model.") + "head.projection."  # the head stands beside the `model`
        inside |= {f"projection.{end}": weights[outer + end] for end in ("weight", "bias") if outer + end in weights}
    own = model.state_dict()
    check_settings(_settings(own), _settings(inside), source)
    fresh = {name for name in set(own) - set(inside) if of_mechanism(name)}
    load_weights(model, inside, fresh, source)


def _settings(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The constructor's arguments, as a model's weights show them."""
    settings = stack_settings(weights, "encoder")
    # Whether there is a last norm does not tell here where the others stand.
    settings["encoder.final_norm"] = settings.pop("encoder.norm_first")
    batch_norm = "encoder.layers.0.attention_residual.norm.running_mean" in weights
    settings["encoder.norm"] = (BatchNorm if batch_norm else nn.LayerNorm).__name__
    if (patch := weights.get("tokens.embedding.weight")) is not None:
        settings["tokens.patch_length"] = patch.shape[1]
        settings["number of tokens"] = len(weights.get("tokens.position.weight", ()))
    if (projection := weights.get("projection.weight")) is not None:
        settings["prediction_length x outputs"] = projection.shape[0]
    return settings

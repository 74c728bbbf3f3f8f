"""From a file to a DETR's weights under our names: facebookresearch/detr's, transformers' or our own."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from core.pretrained.detr import transformer_weights
from tasks.weights import find_model, read_weights

_log = logging.getLogger(__name__)
_MARKS = {
    "facebookresearch/detr": "transformer.encoder.layers.0.self_attn.in_proj_weight",
    "transformers": "encoder.layers.0.self_attn.q_proj.weight",
    "ours": "encoder.layers.0.attention.in_proj.weight",
}
_RENAMED = [
    (r"(?:transformer|model)\.", ""),
    (r"(?:input_proj|input_projection)\.(?=weight$|bias$)", "projection."),
    (r"(?:query_embed|query_position_embeddings)\.weight$", "queries.weight"),
    (r"(?:class_embed|class_labels_classifier)\.(?=weight$|bias$)", "class_head."),
    (r"(?:bbox_embed|bbox_predictor)\.layers\.0\.", "box_head.0."),
    (r"(?:bbox_embed|bbox_predictor)\.layers\.1\.", "box_head.2."),
    (r"(?:bbox_embed|bbox_predictor)\.layers\.2\.", "box_head.4."),
    (r"backbone\.(?:0\.body|conv_encoder\.model|model)\.", "backbone.model."),
]
"""What stands at the beginning of a published name, and of ours, one after the other."""

_STEM = re.compile(r"backbone\.model\.embedder\.embedder\.(convolution|normalization)\.")
_STAGE = re.compile(
    r"backbone\.model\.encoder\.stages\.(\d+)\.layers\.(\d+)\."
    r"(?:layer\.(\d+)|shortcut)\.(convolution|normalization)\."
)


class Published(NamedTuple):
    """A DETR's weights under our names.

    Attributes:
        weights: Weights by name.
        is_ours: Whether a run of ours wrote them. The published ones come of ReLU, and of a softmax with "no object".
    """

    weights: dict[str, Tensor]
    is_ours: bool


def read_published(source: str) -> Published:
    """Reads a file; see `tasks.detr.pretrained.load_pretrained`.

    Raises:
        ValueError: If it cannot be read, or is not the checkpoint of one DETR.
    """
    weights = read_weights(Path(source))
    kind, prefix = find_model(weights, _MARKS, source, "a DETR")
    if kind == "transformers":
        prefix = prefix.removesuffix("model.")  # the heads stand beside the `model`
    inside = {
        name[len(prefix) :]: weight
        for name, weight in weights.items()
        if name.startswith(prefix) and not name.endswith(".num_batches_tracked")  # counts for training alone
    }
    left_out = sorted(name for name in weights if not name.startswith(prefix))
    if left_out:
        _log.info("%s: %d weights outside %r were left out: %s, ...", source, len(left_out), prefix, left_out[0])
    return Published(inside, True) if kind == "ours" else Published(_from_published(inside), False)


def _from_published(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    ours, others = transformer_weights({_rename(name): weight for name, weight in weights.items()})
    is_post_norm = "encoder.norm.weight" not in ours
    for end in ("weight", "bias"):
        name = f"decoder.norm.{end}"
        if name in ours:  # a post-norm `Decoder` ends in no norm of its own
            ours[f"norm.{end}"] = ours.pop(name) if is_post_norm else ours[name]
    return ours | others


def _rename(name: str) -> str:
    for theirs, ours in _RENAMED:
        name = re.sub(f"^{theirs}", ours, name)
    return _STAGE.sub(_in_stage, _STEM.sub(lambda match: f"backbone.model.{_kind(match[1])}1.", name))


def _in_stage(match: re.Match[str]) -> str:
    """A layer of transformers' ResNet as torchvision and timm call it."""
    stage, block, layer, kind = match.groups()
    part = f"downsample.{int(kind == 'normalization')}" if layer is None else f"{_kind(kind)}{int(layer) + 1}"
    return f"backbone.model.layer{int(stage) + 1}.{block}.{part}."


def _kind(kind: str) -> str:
    return "conv" if kind == "convolution" else "bn"

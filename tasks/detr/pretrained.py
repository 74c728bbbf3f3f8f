"""Pretrained weights for DETR: what must fit, what is adapted, what stays fresh."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from tasks.detr.classification import SoftmaxClassification
from tasks.detr.published import Published, read_published
from tasks.weights import check_settings, last_number, load_weights, of_mechanism, stack_activation, stack_settings

if TYPE_CHECKING:
    from tasks.detr.model import DETR

_log = logging.getLogger(__name__)
COCO_IDS = sorted(set(range(1, 91)) - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
"""The ids of COCO's 80 categories."""

_COCO_LOGITS = 92  # of the published head: one for each number up to the last id, with gaps, and "no object"
_OF_CLASSES = ("class_head.", "denoising.label.")
_QUERIES = {"weight": "LearnedQueries", "anchors": "AnchorQueries", "propose.0.weight": "ProposalQueries"}


def load_pretrained(model: "DETR", source: str, category_ids: Sequence[int] | None = None) -> None:
    """Starts a DETR from published weights, or from those of an earlier run.

    With another number of classes the class head keeps its fresh weights, and so do the embedding of labels for
    denoising and the parameters of an attention mechanism that the checkpoint does not have. A head published for
    COCO has a row for every category id up to 90: if `category_ids` are the 80 of COCO, their rows are taken. All else
    must fit, the number of queries too: each has learned where to look, and none can be spared or added untrained.
    A file does not show the number of heads, nor a dilated backbone (DC5), which is not supported.

    Args:
        model: The DETR, changed in place.
        source: A file: `.safetensors`, or what `torch.save` wrote (`.pth`, `.pt`, `.bin`, `.ckpt`), under the names of
            facebookresearch/detr, of transformers' `DetrForObjectDetection`, or of our own checkpoints.
        category_ids: The data's own id of each class.

    Raises:
        ValueError: If the file cannot be read, or its weights do not fit.
    """
    published = read_published(source)
    _check_settings(model, published, source)
    own = model.state_dict()
    weights = _fit_classes(model, published, source, category_ids)
    fresh = {name for name in set(own) - set(weights) if name.startswith(_OF_CLASSES) or of_mechanism(name)}
    load_weights(model, weights, fresh, source)


def _check_settings(model: "DETR", published: Published, source: str) -> None:
    """Refuses in one line all arguments that the checkpoint needs otherwise."""
    own, theirs = _settings(model.state_dict()), _settings(published.weights)
    if own["backbone"] is None:
        own["backbone"] = type(model.backbone).__name__
    if not published.is_ours:
        for name, stack in {"encoder": model.encoder, "decoder": model.decoder}.items():
            own[f"{name}.activation"] = stack_activation(stack)
            theirs[f"{name}.activation"] = "ReLU"
    check_settings(own, {name: value for name, value in theirs.items() if value is not None}, source)


def _settings(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The constructor's arguments, as a model's weights show them; None where they do not."""
    settings: dict[str, Any] = {"backbone": _resnet(weights)}
    for stack in ("encoder", "decoder"):
        settings |= stack_settings(weights, stack)
    settings["queries"] = next((name for part, name in _QUERIES.items() if f"queries.{part}" in weights), None)
    queries = weights.get("queries.weight", weights.get("queries.content"))
    settings["queries.num_queries"] = None if queries is None else len(queries)
    return settings


def _resnet(weights: Mapping[str, Tensor]) -> str | None:
    """What a ResNet's weights show of it; None = it is none."""
    blocks = [1 + last_number(weights, rf"backbone\.model\.layer{stage}\.(\d+)\.") for stage in range(1, 5)]
    return f"a ResNet of {'+'.join(map(str, blocks))} blocks" if all(blocks) else None


def _fit_classes(
    model: "DETR", published: Published, source: str, category_ids: Sequence[int] | None
) -> dict[str, Tensor]:
    """Leaves out what was learned for other classes, but for COCO's by their ids."""
    weights, head = dict(published.weights), published.weights.get("class_head.weight")
    if head is None:
        return weights
    num_logits = len(model.class_head.weight)
    is_softmax = isinstance(model.classification, SoftmaxClassification)
    if (published.is_ours or is_softmax) and len(head) == num_logits:
        return weights
    ids, is_numbered = list(category_ids or []), not published.is_ours and len(head) == _COCO_LOGITS
    if is_numbered and is_softmax and model.num_classes == len(ids) and sorted(ids) == COCO_IDS:
        _log.info("%s: its head is numbered by COCO's ids; the rows of the data's 80 are taken", source)
        rows = [*ids, _COCO_LOGITS - 1]
        return weights | {name: weights[name][rows] for name in ("class_head.weight", "class_head.bias")}
    _log.info(
        "%s: its head has %d logits, %s with num_classes=%d has %d: the class head stays fresh",
        source,
        len(head),
        type(model.classification).__name__,
        model.num_classes,
        num_logits,
    )
    return {
        name: weight for name, weight in weights.items() if not name.startswith(("class_head.", "denoising.label."))
    }

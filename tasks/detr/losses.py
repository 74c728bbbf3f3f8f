"""What found boxes are worth: class, L1 and generalised IoU of matched pairs (Carion et al. 2020, section 3.1)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tasks.detr.boxes import cxcywh_to_xyxy, generalized_iou_pairs
from tasks.detr.classification import Classification
from tasks.detr.denoising import Noised
from tasks.detr.matcher import Matches
from tasks.detr.model import Found
from tasks.detr.targets import Targets
from tasks.means import Mean

Parts = dict[str, Mean]
"""Of each layer: `class`, `box` and `giou`, weighted, so that their sum is the loss."""


class SetLoss:
    """`class_weight * class loss + box_weight * |b - b'|_1 + giou_weight * (1 - GIoU(b, b'))` of each decoder layer.

    The two box losses are summed over pairs and divided by the number of objects of the batch. All layers count alike
    (the auxiliary losses of Carion et al. 2020, section 3.2).

    Args:
        class_weight: Weight of the class.
        box_weight: Weight of the L1 distance of boxes.
        giou_weight: Weight of the generalised IoU.

    Raises:
        ValueError: If a weight is negative.
    """

    def __init__(self, class_weight: float = 1.0, box_weight: float = 5.0, giou_weight: float = 2.0) -> None:
        weights = (class_weight, box_weight, giou_weight)
        if min(weights) < 0:
            raise ValueError(f"class_weight, box_weight, giou_weight = {weights}: none may be negative")
        self.class_weight = class_weight
        self.box_weight = box_weight
        self.giou_weight = giou_weight

    def of_matches(
        self,
        found: Found,
        targets: Targets,
        matches: Matches,
        classification: Classification,
        padding: Bool[Tensor, "batch queries"] | None = None,
    ) -> Parts:
        """The loss of what was found: a query without an object should say so; one that is padding counts nowhere."""
        layers, batch, queries, _ = found.logits.shape
        no_object = classification.num_classes(found.logits.shape[-1])
        labels = torch.full((layers, batch, queries), no_object, device=found.logits.device)
        labels[:, targets.skipped] = -1
        if padding is not None:
            labels[:, padding] = -1
        where = (matches.layer, matches.picture, matches.query)
        labels[where] = targets.labels[matches.target]
        pairs = (found.boxes[where], targets.boxes[matches.target], matches.layer)
        return self._parts(found, labels, *pairs, targets.num_objects, classification)

    def of_noised(self, found: Found, noised: Noised, num_objects: int, classification: Classification) -> Parts:
        """The loss of what was restored of `noised` objects, which need no matching."""
        layers = len(found.logits)
        real = ~noised.padding
        labels = noised.labels.expand(layers, -1, -1)
        boxes = found.boxes[:, real]
        layer = torch.arange(layers, device=boxes.device).repeat_interleave(boxes.shape[1])
        pairs = (boxes.flatten(0, 1), noised.boxes[real].repeat(layers, 1), layer)
        return self._parts(found, labels, *pairs, num_objects, classification)

    def _parts(
        self,
        found: Found,
        labels: Int[Tensor, "layers batch queries"],
        boxes: Float[Tensor, "pairs 4"],
        true_boxes: Float[Tensor, "pairs 4"],
        layer: Int[Tensor, " pairs"],
        num_objects: int,
        classification: Classification,
    ) -> Parts:
        boxes = boxes.float()
        distance = (boxes - true_boxes).abs().sum(1)
        giou_loss = 1 - generalized_iou_pairs(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(true_boxes))

        def of_layers(weight: float, each: Tensor) -> Mean:
            return Mean.of(weight * each.new_zeros(len(found.logits)).index_add(0, layer, each), num_objects)

        of_class = classification.loss(found.logits, labels, num_objects)
        return {
            "class": of_class._replace(total=self.class_weight * of_class.total),
            "box": of_layers(self.box_weight, distance),
            "giou": of_layers(self.giou_weight, giou_loss),
        }


def total(parts: Parts) -> Float[Tensor, ""]:
    """The loss over all parts and layers."""
    return torch.stack([part.value for part in parts.values()]).sum()

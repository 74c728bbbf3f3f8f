"""Which query answers for which object: the assignment of least cost (Carion et al. 2020, section 3.1)."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from tasks.detr.boxes import cxcywh_to_xyxy, generalized_iou_pairs
from tasks.detr.classification import Classification
from tasks.detr.model import Found
from tasks.detr.targets import Targets


@dataclass(frozen=True)
class Matches:
    """Pairs of a query and an object.

    Attributes:
        layer: The decoder layer of each pair.
        picture: The picture of each pair.
        query: The query.
        target: The object, by its number among all objects of the batch.
        repaired: Numbers of the pictures with costs that were not finite.
    """

    layer: Int[Tensor, " pairs"]
    picture: Int[Tensor, " pairs"]
    query: Int[Tensor, " pairs"]
    target: Int[Tensor, " pairs"]
    repaired: list[int]


class HungarianMatcher:
    """Matches queries and objects one to one, each picture and decoder layer by itself.

    `cost = class_cost * cost of the class + box_cost * |b - b'|_1 - giou_cost * GIoU(b, b')`, in float32, minimised by
    the Hungarian algorithm (Kuhn 1955; scipy's `linear_sum_assignment`). A cost that is not finite is replaced by one
    that no finite cost reaches. Where objects outnumber queries, the most expensive stay without one.

    Args:
        class_cost: Weight of the class.
        box_cost: Weight of the L1 distance of boxes.
        giou_cost: Weight of the generalised IoU.

    Raises:
        ValueError: If a weight is negative, or all are 0.
    """

    def __init__(self, class_cost: float = 1.0, box_cost: float = 5.0, giou_cost: float = 2.0) -> None:
        weights = (class_cost, box_cost, giou_cost)
        if min(weights) < 0 or max(weights) == 0:
            raise ValueError(f"class_cost, box_cost, giou_cost = {weights}: none may be negative, nor all 0")
        self.class_cost = class_cost
        self.box_cost = box_cost
        self.giou_cost = giou_cost

    @torch.no_grad()
    def __call__(
        self,
        found: Found,
        targets: Targets,
        classification: Classification,
        padding: Bool[Tensor, "batch queries"] | None = None,
    ) -> Matches:
        """Matches what each layer finds with the objects of the batch; what is padding is matched with none."""
        costs = self.costs(found, targets, classification)
        first = np.cumsum([0, *targets.counts])
        pairs = [np.empty((4, 0), dtype=np.int64)]
        repaired = []
        for picture, (count, cost) in enumerate(zip(targets.counts, costs.unbind(1), strict=True)):
            cost = cost[:, :, :count].cpu().numpy()
            real = np.arange(cost.shape[1]) if padding is None else (~padding[picture]).nonzero()[:, 0].cpu().numpy()
            cost = cost[:, real]
            finite = np.isfinite(cost)
            if not finite.all():
                repaired.append(picture)
                beyond = 2 * np.abs(cost[finite]).max(initial=1.0) * (min(cost.shape[1:]) + 1)
                cost = np.where(finite, cost, beyond)
            for layer, layer_cost in enumerate(cost):
                query, target = linear_sum_assignment(layer_cost)
                of = [np.full_like(query, layer), np.full_like(query, picture)]
                pairs.append(np.stack([*of, real[query], target + first[picture]]))
        every = torch.from_numpy(np.concatenate(pairs, axis=1)).to(costs.device)
        layer, picture, query, target = every
        return Matches(layer, picture, query, target, repaired)

    def costs(
        self, found: Found, targets: Targets, classification: Classification
    ) -> Float[Tensor, "layers batch queries most"]:
        """The cost of each query for each object of its picture; behind a picture's own objects it means nothing."""
        boxes, labels, _ = targets.padded()
        own = found.boxes.float()[..., None, :]
        there = labels[:, None, :].expand(*found.boxes.shape[:3], -1)
        cost = self.class_cost * classification.cost(found.logits).gather(-1, there)
        cost = cost + self.box_cost * (own - boxes[:, None]).abs().sum(-1)
        corners, true_corners = cxcywh_to_xyxy(own), cxcywh_to_xyxy(boxes[:, None])
        return cost - self.giou_cost * generalized_iou_pairs(corners, true_corners)

"""How a query says its class, or that it has found nothing: by softmax with a no-object class, or by focal loss."""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from tasks.means import Mean

Logits = Float[Tensor, "*shape logits"]
Labels = Int[Tensor, "*shape"]


class Classification(ABC):
    """A reading of the class head's logits: what they say, what they cost, and their loss."""

    @abstractmethod
    def num_logits(self, num_classes: int) -> int:
        """How many logits a query has."""

    @abstractmethod
    def num_classes(self, num_logits: int) -> int:
        """How many classes so many logits stand for."""

    @abstractmethod
    def initialise(self, head: nn.Linear) -> None:
        """Sets what the head says before it has learned."""

    @abstractmethod
    def probabilities(self, logits: Logits) -> Float[Tensor, "*shape classes"]:
        """The probability of each class, without that of no object."""

    @abstractmethod
    def select(self, logits: Logits, limit: int) -> tuple[Tensor, Tensor, Tensor]:
        """The answers of each picture with the highest scores, best first: their scores, labels and queries.

        Args:
            logits: (batch, queries, logits).
            limit: The most answers of a picture.
        """

    @abstractmethod
    def cost(self, logits: Logits) -> Float[Tensor, "*shape classes"]:
        """What it costs to match a query with an object of each class."""

    @abstractmethod
    def loss(self, logits: Logits, labels: Labels, num_objects: int) -> Mean:
        """The loss of each layer; a label of `num_classes` is no object, and -1 counts nowhere.

        Args:
            logits: (layers, batch, queries, logits).
            labels: (layers, batch, queries).
            num_objects: Objects of the batch, by which a sum may be divided.
        """


class SoftmaxClassification(Classification):
    """A softmax over the classes and "no object" (Carion et al. 2020, section 3.1).

    The loss is the mean of the cross-entropy, queries without an object weighing `no_object_weight`. The matching cost
    is minus the probability.

    Args:
        no_object_weight: Weight of a query that should find nothing, of which there are many.

    Raises:
        ValueError: If `no_object_weight` is not positive.
    """

    def __init__(self, no_object_weight: float = 0.1) -> None:
        if no_object_weight <= 0:
            raise ValueError(f"no_object_weight={no_object_weight} must be positive")
        self.no_object_weight = no_object_weight

    def num_logits(self, num_classes: int) -> int:
        return num_classes + 1

    def num_classes(self, num_logits: int) -> int:
        return num_logits - 1

    def initialise(self, head: nn.Linear) -> None:
        """Leaves torch's own initial values."""

    def probabilities(self, logits: Logits) -> Tensor:
        return logits.float().softmax(-1)[..., :-1]

    def select(self, logits: Logits, limit: int) -> tuple[Tensor, Tensor, Tensor]:
        """Each query's likeliest class."""
        scores, labels = self.probabilities(logits).max(-1)
        scores, queries = scores.topk(min(limit, scores.shape[1]))
        return scores, labels.gather(1, queries), queries

    def cost(self, logits: Logits) -> Tensor:
        return -self.probabilities(logits)

    def loss(self, logits: Logits, labels: Labels, num_objects: int) -> Mean:
        weights = torch.ones(logits.shape[-1], device=logits.device)
        weights[-1] = self.no_object_weight
        each = F.cross_entropy(
            logits.float().flatten(0, -2), labels.flatten(), weight=weights, ignore_index=-1, reduction="none"
        )
        counted = torch.where(labels < 0, 0.0, weights[labels.clamp(min=0)])
        return Mean.of(each.view_as(counted).flatten(1).sum(1), counted.flatten(1).sum(1))


class FocalClassification(Classification):
    """A probability of its own for each class, trained by focal loss (Lin et al. 2017), as Deformable DETR has it.

    `FL = -alpha_t (1 - p_t)^gamma log p_t`, summed over queries and classes and divided by the number of objects. The
    matching cost is the loss of saying the class minus that of not saying it.

    Args:
        alpha: Weight of a class that is there; one that is not weighs `1 - alpha`.
        gamma: How much less an easy example counts.
        prior: Probability that every class starts with.

    Raises:
        ValueError: If `alpha` or `prior` is not in (0, 1), or `gamma` is negative.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0, prior: float = 0.01) -> None:
        if not 0 < alpha < 1 or gamma < 0 or not 0 < prior < 1:
            raise ValueError(f"alpha={alpha} and prior={prior} must be in (0, 1), and gamma={gamma} not negative")
        self.alpha = alpha
        self.gamma = gamma
        self.prior = prior

    def num_logits(self, num_classes: int) -> int:
        return num_classes

    def num_classes(self, num_logits: int) -> int:
        return num_logits

    def initialise(self, head: nn.Linear) -> None:
        """Every class starts with the probability `prior` (Lin et al. 2017, section 3.3)."""
        nn.init.constant_(head.bias, -math.log((1 - self.prior) / self.prior))

    def probabilities(self, logits: Logits) -> Tensor:
        return logits.float().sigmoid()

    def select(self, logits: Logits, limit: int) -> tuple[Tensor, Tensor, Tensor]:
        """The likeliest pairs of query and class: a query may give several."""
        scores, pairs = self.probabilities(logits).flatten(1).topk(min(limit, logits[0].numel()))
        return scores, pairs % logits.shape[-1], pairs // logits.shape[-1]

    def cost(self, logits: Logits) -> Tensor:
        there, not_there = self._both(logits)
        return there - not_there

    def loss(self, logits: Logits, labels: Labels, num_objects: int) -> Mean:
        there, not_there = self._both(logits)
        classes = torch.arange(logits.shape[-1], device=logits.device)
        each = torch.where(labels[..., None] == classes, there, not_there)
        each = each.masked_fill((labels < 0)[..., None], 0.0)
        return Mean.of(each.flatten(1).sum(1), num_objects)

    def _both(self, logits: Logits) -> tuple[Tensor, Tensor]:
        """The loss of each class if it is there, and if it is not."""
        logits = logits.float()
        p = logits.sigmoid()
        there = self.alpha * (1 - p) ** self.gamma * F.softplus(-logits)
        not_there = (1 - self.alpha) * p**self.gamma * F.softplus(logits)
        return there, not_there

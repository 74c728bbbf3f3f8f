"""Denoising queries: objects with noise on label and box, to be restored (DN-DETR; Li et al. 2022)."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tasks.detr.targets import Targets


class Noised(NamedTuple):
    """Objects with noise as queries, the groups one behind the other, and what they were.

    Attributes:
        content: What each query knows: the embedding of its label with noise.
        anchors: Its box with noise, as logits.
        boxes: The true boxes.
        labels: The true labels; -1 in padding.
        padding: True = there is no object; pictures have unequal numbers.
        group_size: Queries of a group: the most objects of a picture.
    """

    content: Float[Tensor, "batch noised embed_dim"]
    anchors: Float[Tensor, "batch noised 4"]
    boxes: Float[Tensor, "batch noised 4"]
    labels: Int[Tensor, "batch noised"]
    padding: Bool[Tensor, "batch noised"]
    group_size: int

    def masks(self, num_queries: int) -> dict[str, Tensor]:
        """A decoder's masks when `num_queries` queries proper follow: they see no noised object, and a group sees
        no other group.
        """
        batch, count = self.padding.shape
        group = torch.arange(count, device=self.padding.device) // max(self.group_size, 1)
        group = torch.cat([group, group.new_full((num_queries,), -1)])
        blocked = group[:, None] != group[None, :]
        blocked[:count, count:] = False  # a noised object may see the queries proper
        padding = torch.cat([self.padding, self.padding.new_zeros(batch, num_queries)], dim=1)
        return {"attn_mask": blocked, "key_padding_mask": padding}


class Denoising(nn.Module):
    """Adds noise to the objects of a batch (DN-DETR; Li et al. 2022, section 4.1).

    A label becomes another with the probability `label_noise`. A box's centre moves by up to `box_noise / 2` of its
    width and height, and its width and height change by up to the factor `1 +- box_noise`, uniformly.

    Args:
        embed_dim: Width of a query.
        num_classes: Number of classes.
        num_groups: How many times each object is given.
        label_noise: Probability of another label.
        box_noise: Extent of the noise on boxes, in [0, 1).

    Raises:
        ValueError: If `num_groups` is less than 1, or a noise is out of range.
    """

    def __init__(
        self,
        embed_dim: int,
        num_classes: int,
        *,
        num_groups: int = 5,
        label_noise: float = 0.2,
        box_noise: float = 0.4,
    ) -> None:
        super().__init__()
        if num_groups < 1:
            raise ValueError(f"num_groups={num_groups} must be at least 1")
        if not 0 <= label_noise <= 1 or not 0 <= box_noise < 1:
            raise ValueError(f"label_noise={label_noise} must be in [0, 1] and box_noise={box_noise} in [0, 1)")
        self.num_groups = num_groups
        self.label_noise = label_noise
        self.box_noise = box_noise
        self.label = nn.Embedding(num_classes, embed_dim)

    def forward(self, targets: Targets) -> Noised:
        """Makes the denoising queries of a batch; none where no picture has an object."""
        boxes, labels, padding = targets.padded()
        group_size = boxes.shape[1]
        boxes, labels, padding = (x.repeat(1, self.num_groups, *[1] * (x.ndim - 2)) for x in (boxes, labels, padding))
        other = torch.randint_like(labels, self.label.num_embeddings)
        flipped = torch.rand(labels.shape, device=labels.device) < self.label_noise
        content = self.label(torch.where(flipped, other, labels))
        noise = (torch.rand_like(boxes) * 2 - 1) * self.box_noise
        size = boxes[..., 2:]
        noised = torch.cat([boxes[..., :2] + noise[..., :2] * size / 2, size * (1 + noise[..., 2:])], dim=-1)
        return Noised(
            content=content,
            anchors=noised.clamp(1e-4, 1 - 1e-4).logit(),
            boxes=boxes,
            labels=labels.masked_fill(padding, -1),
            padding=padding,
            group_size=group_size,
        )

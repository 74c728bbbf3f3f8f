"""Splits that keep each class's share."""

from collections.abc import Sequence

import torch
from torch import Tensor


def stratified_split(labels: Tensor, shares: Sequence[float], *, seed: int = 0) -> list[Tensor]:
    """Splits samples so that each part has the same share of every class.

    Args:
        labels: Class of each sample, (samples,).
        shares: Share of each part but the first, which gets the rest.
        seed: Decides who goes where.

    Returns:
        The indices of each part, ascending; of a class with n samples a part gets n * share, rounded.

    Raises:
        ValueError: If a share is not in [0, 1), or they leave nothing to the first part.

    >>> [len(part) for part in stratified_split(torch.arange(40) % 4, [0.1, 0.2])]
    [28, 4, 8]
    """
    if not all(0 <= share < 1 for share in shares) or sum(shares) >= 1:
        raise ValueError(f"shares {list(shares)} must be in [0, 1) and sum to less than 1")
    generator = torch.Generator().manual_seed(seed)
    parts: list[list[Tensor]] = [[] for _ in range(len(shares) + 1)]
    by_class = labels.argsort(stable=True).split(labels.bincount().tolist())
    for members in by_class:
        shuffled = members[torch.randperm(len(members), generator=generator)]
        counts = [round(share * len(members)) for share in shares]
        for part, chosen in zip(parts, shuffled.split([len(members) - sum(counts), *counts]), strict=True):
            part.append(chosen)
    return [torch.cat(part).sort().values for part in parts]

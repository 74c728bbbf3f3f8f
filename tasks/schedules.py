"""Learning-rate schedules by step."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class WarmupCosine(LambdaLR):
    """Linear warm-up from zero, then half a cosine down to a share of the peak (Loshchilov and Hutter 2017).

    With w warm-up steps of T in all, step t has the peak rate times `(t + 1) / (w + 1)` up to w, and then
    `final + (1 - final) * (1 + cos(pi (t - w) / (T - w))) / 2`.

    Args:
        optimizer: Holds the peak rate of each group.
        total_steps: Number of optimiser steps in the whole training.
        warmup: Share of the steps in which the rate rises.
        final: Share of the peak that is left at the end.

    Raises:
        ValueError: If a share is not in [0, 1].
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, *, warmup: float = 0.05, final: float = 0.01) -> None:
        for name, value in [("warmup", warmup), ("final", final)]:
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value} is not a share in [0, 1]")
        warmup_steps = round(warmup * total_steps)

        def factor(step: int) -> float:
            if step < warmup_steps:
                return (step + 1) / (warmup_steps + 1)
            progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
            return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))

        super().__init__(optimizer, factor)


class StepDecay(LambdaLR):
    """The peak rate, then a share of it (DETR's schedule: a tenth after two thirds; Carion et al. 2020).

    Args:
        optimizer: Holds the peak rate of each group.
        total_steps: Number of optimiser steps in the whole training.
        at: Share of the steps after which the rate drops.
        factor: Share of the peak that is left.

    Raises:
        ValueError: If a share is not in [0, 1].
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, *, at: float = 2 / 3, factor: float = 0.1) -> None:
        for name, value in [("at", at), ("factor", factor)]:
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value} is not a share in [0, 1]")
        drop = round(at * total_steps)
        super().__init__(optimizer, lambda step: 1.0 if step < drop else factor)

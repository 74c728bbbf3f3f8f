"""Windows of random forecasts, with missing values of every kind."""

from typing import Any

import numpy as np
import torch

LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)


def windows(count: int = 64, steps: int = 5, channels: int = 3, *, seed: int = 0) -> dict[str, Any]:
    """An evaluation batch of `count` windows with forecasts `point` and `quantiles`; NaN stands behind every mask."""
    rng = np.random.default_rng(seed)
    shape = (count, steps, channels)
    batch: dict[str, Any] = {name: rng.normal(size=shape) for name in ("future", "naive", "point")}
    batch["quantiles"] = np.sort(rng.normal(size=(*shape, len(LEVELS))), axis=-1)
    batch |= {name: rng.random(shape) < 0.2 for name in ("future_mask", "naive_mask")}
    batch["future"][batch["future_mask"]] = np.nan
    batch["naive"][batch["naive_mask"]] = np.inf
    batch["mean"], batch["std"] = rng.normal(size=(count, channels)), rng.uniform(0.5, 50, (count, channels))
    batch["naive_error"] = rng.uniform(0.2, 2.0, (count, channels))
    made = {name: torch.from_numpy(values) for name, values in batch.items()}
    return {name: each if each.dtype == torch.bool else each.float() for name, each in made.items()}


def pick(batch: dict[str, Any], rows: Any) -> dict[str, Any]:
    """Some windows of a batch."""
    return {name: values[rows] for name, values in batch.items()}

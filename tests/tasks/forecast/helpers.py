"""Windows of random forecasts, with missing values of every kind."""

from typing import Any

import numpy as np
import pandas as pd
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


def predicted(
    series: list[str],
    channel_names: list[str],
    *,
    index: list[int] | None = None,
    start: str = "2024-03-30 20:00",
    zone: str | None = None,
    frequency: str = "h",
    context: int = 12,
    steps: int = 4,
    levels: tuple[float, ...] = LEVELS,
    seed: int = 0,
) -> dict[str, Any]:
    """What `predict_step` gives for the series of a file: forecasts in the data's own units, histories standardised."""
    rng = np.random.default_rng(seed)
    count, channels = len(series), len(channel_names)
    times = pd.date_range(start, periods=context + steps, freq=frequency, tz=zone)
    quantiles = np.sort(rng.normal(100, 10, (count, steps, channels, len(LEVELS))), axis=-1)
    past, mask = rng.normal(size=(count, context, channels)), np.zeros((count, context, channels), bool)
    mask[:, :3] = True  # a series shorter than the context
    arrays = {"past": np.where(mask, 0.0, past), "point": quantiles[..., 2]}
    arrays |= {"mean": np.full((count, channels), 100.0), "std": np.full((count, channels), 10.0)}
    return {
        **{name: torch.from_numpy(values).float() for name, values in arrays.items()},
        "past_mask": torch.from_numpy(mask),
        "quantiles": torch.from_numpy(quantiles[..., : len(levels)]).float() if levels else None,
        "levels": levels,
        "index": torch.tensor(index or [0] * count),
        "names": series,
        "channel_names": channel_names,
        "past_times": [times[:context]] * count,
        "future_times": [times[context:]] * count,
    }

"""Where the network looked: its attention over the steps of the history, below the series, or over the channels."""

import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from core.explain import attention_rollout, record_attention
from tasks.figures import as_png
from tasks.forecast.drawing import draw_history, plain_times
from tasks.forecast.model import Forecaster
from tasks.forecast.report import MOST_PICTURES, file_names, in_units
from tasks.forecast.revin import Past, PastMask
from tasks.forecast.tokens import Covariates
from tasks.run import output_names, write_anew

Weights = dict[str, Float[Tensor, "..."]]
MEASURES = {
    "encoder": "encoder's last layer, mean over heads and tokens",
    "rollout": "attention rollout through all layers, mean over tokens",
    "decoder": "decoder's last cross-attention, mean over heads",
    "channels": "encoder's last layer, mean over heads",
    "channels_rollout": "attention rollout through all layers",
}
"""What the weights are."""

_log = logging.getLogger(__name__)


@torch.no_grad()
def explain(model: Forecaster, past: Past, past_mask: PastMask, covariates: Covariates | None = None) -> Weights:
    """The weights with which a network saw what it forecast one sample from.

    Where tokens are stretches of time, `encoder` and `rollout` are (sequences, context): of each sequence that is
    encoded by itself - a channel, or all together - the weight of each step, a token's being spread evenly over its
    steps. `encoder` is the attention of the last layer, mean over heads and over the tokens that look, as the forecast
    reads them all alike; `rollout` is `core.explain.attention_rollout`. They sum to 1, less what tokens of the future's
    covariates were given. With a decoder, `decoder` is its last layer's attention to the encoder (sequences, horizon,
    context), mean over heads. Where tokens are channels, these are `channels` and `channels_rollout`, both (channels,
    channels), covariates after the channels: rows look, columns are seen.

    Args:
        model: The network; dropout is off.
        past: The history of one sample, standardised.
        past_mask: True = missing.
        covariates: Of the history's and the future's steps.
    """
    encoder = [f"encoder.layers.{number}.attention" for number in range(len(model.encoder.layers))]
    decoder = []
    if model.decoder is not None:
        decoder = [f"decoder.decoder.layers.{len(model.decoder.decoder.layers) - 1}.cross_attention"]
    training = model.training
    model.eval()
    try:
        with record_attention(model, layers=[*encoder, *decoder]) as recorded:
            model(past, past_mask, covariates)
        padding = model.tokens(past, past_mask, covariates)[1]
    finally:
        model.train(training)
    layers = [recorded[name][0] for name in encoder]
    weights = {"encoder": layers[-1].mean(1), "rollout": attention_rollout(layers)}
    token_steps = model.tokens.token_steps
    if token_steps is None:
        return {"channels": weights["encoder"][0], "channels_rollout": weights["rollout"][0]}
    looking = torch.ones(layers[0].shape[::2], device=past.device) if padding is None else (~padding).float()
    looking = looking[:, None] / looking.sum(1).clamp(min=1)[:, None, None]
    weights = {name: (looking @ each)[:, 0] for name, each in weights.items()}
    if model.decoder is not None:
        weights["decoder"] = recorded[decoder[0]][0].mean(1)[:, model.decoder.start_length :]
    return {name: spread(each, token_steps, past.shape[1]) for name, each in weights.items()}


def spread(
    weights: Float[Tensor, "*others tokens"], token_steps: Sequence[tuple[int, int]], length: int
) -> Float[Tensor, "*others {length}"]:
    """Spreads the weight of each token evenly over the steps that it covers; tokens of no such steps are left out.

    Args:
        weights: Of each token.
        token_steps: First and last step of each of the first tokens.
        length: Number of steps.

    >>> spread(torch.tensor([0.5, 0.25, 0.25]), [(0, 1), (1, 2)], 3).tolist()
    [0.25, 0.375, 0.125]
    """
    shares = weights.new_zeros(len(token_steps), length)
    for token, (first, last) in enumerate(token_steps):
        shares[token, first : last + 1] = 1 / (last - first + 1)
    return weights[..., : len(token_steps)] @ shares


def save_explanations(
    batches: Sequence[Mapping[str, Any]], names: Sequence[str], folder: Path, model: Forecaster
) -> None:
    """Writes `attention/NAME_SERIES.npz`, and what `draw` draws as `attention/NAME_SERIES_CHANNEL.png`.

    An `.npz` holds what `explain` gives, `measures`, what these weights are, `channel_names`, and the ISO 8601 `times`
    of the history. Series are explained in their order, as many as make up `MOST_PICTURES`. Earlier files are kept
    under another name.

    Args:
        batches: As for `tasks.forecast.report.save_predictions`.
        names: Path of each file.
        folder: Where to write.
        model: The network.
    """
    outputs, device = output_names(names), next(model.parameters()).device
    samples = [(batch, row) for batch in batches for row in range(len(batch["index"]))]
    each_draws = model.shape.num_channels // model.tokens.channels_each if model.tokens.token_steps else 1
    explained = samples[: -(-MOST_PICTURES // each_draws)]
    plain = [
        "_".join([outputs[int(batch["index"][row])], *file_names([batch["names"][row]])]) for batch, row in explained
    ]
    for (batch, row), name in zip(explained, output_names([f"{name}.npz" for name in plain]), strict=True):
        one: dict[str, Any] = {
            each: batch[each][row : row + 1].to(device) for each in ("past", "past_mask", "covariates") if each in batch
        }
        weights = explain(model, **one)
        weights = {measure: each.float().cpu() for measure, each in weights.items()}
        arrays: dict[str, Any] = {measure: each.numpy() for measure, each in weights.items()}
        arrays |= {"measures": [MEASURES[measure] for measure in weights], "channel_names": batch["channel_names"]}
        content = io.BytesIO()
        np.savez_compressed(content, **arrays, times=[time.isoformat() for time in batch["past_times"][row]])
        write_anew(folder / "attention" / f"{name}.npz", content.getvalue())
        for drawn, picture in draw(batch, row, weights, name).items():
            write_anew(folder / "attention" / f"{drawn}.png", picture)
    if len(explained) < len(samples):
        _log.info("explained the first %d of %d series", len(explained), len(samples))


def draw(batch: Mapping[str, Any], row: int, weights: Weights, name: str) -> dict[str, bytes]:
    """Draws the weights of one sample, as PNGs by their names.

    For each sequence that is encoded by itself, no more than `MOST_PICTURES`, its history with the weights of its steps
    below on the same axis of time, and with a decoder those for each step ahead below these: in the data's own units if
    it is one channel, standardised if several go together. Where tokens are channels, which channel looked at which.

    Args:
        batch: Has the sample.
        row: Where in it.
        weights: What `explain` gave for it.
        name: What the names begin with.
    """
    channel_names: list[str] = batch["channel_names"]
    title = ", ".join([name, *filter(None, [batch["names"][row]])])
    if "channels" in weights:
        return {name: _draw_channels(weights, [*channel_names], title)}
    times = batch["past_times"][row]
    if len(weights["encoder"]) < len(channel_names):
        missing = batch["past_mask"][row].cpu()
        together = batch["past"][row].cpu().masked_fill(missing, torch.nan).numpy()
        return {name: _draw_times(weights, 0, times, together, f"{title}: {len(channel_names)} channels, standardised")}
    pictures = {}
    several = len(channel_names) > 1
    unlike = output_names([f"{name}_{part}.png" for part in file_names(channel_names)]) if several else [name]
    for number, file in enumerate(unlike[:MOST_PICTURES]):
        values = in_units(batch, "past", [row])[0, :, number : number + 1]
        pictures[file] = _draw_times(weights, number, times, values, f"{title}, {channel_names[number]}")
    return pictures


def _draw_times(
    weights: Weights, number: int, times: pd.DatetimeIndex, values: Float[np.ndarray, "steps channels"], title: str
) -> bytes:
    """The history of a sequence, and below it the weights of its steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 8 if "decoder" in weights else 5), layout="constrained")
    above, below, *last = figure.subplots(2 + ("decoder" in weights), 1, sharex=True)
    for channel in values.T:
        draw_history(above, times, channel)
    above.set_title(title, fontsize=10, parse_math=False)
    steps = plain_times(times)
    for measure, color in [("encoder", "tab:purple"), ("rollout", "tab:green")]:
        below.plot(steps, weights[measure][number].numpy(), drawstyle="steps-mid", color=color, label=MEASURES[measure])
    below.axhline(0, color="gray", linewidth=0.8)
    below.set_ylabel("weight")
    below.legend(fontsize=8)
    for axes in last:
        seen = weights["decoder"][number].numpy()
        shown = axes.pcolormesh(steps, np.arange(1, len(seen) + 1), seen, shading="nearest", cmap="inferno")
        axes.set_ylabel("step ahead")
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.set_title(MEASURES["decoder"], fontsize=9)
        figure.colorbar(shown, ax=axes, label="weight", pad=0.01)
    return as_png(figure)


def _draw_channels(weights: Weights, names: list[str], title: str) -> bytes:
    """A square of weights for each measure: rows look, columns are seen."""
    from matplotlib.figure import Figure

    count = len(weights["channels"])
    names += [f"covariate {number}" for number in range(1, count - len(names) + 1)]
    side = min(3 + 0.3 * count, 20.0)
    figure = Figure(figsize=(2 * side, side + 0.5), layout="constrained")
    for axes, (measure, seen) in zip(figure.subplots(1, 2), weights.items(), strict=True):
        shown = axes.imshow(seen.numpy(), cmap="inferno", interpolation="none")
        if count <= 60:  # more would lie over each other
            axes.set_xticks(range(count), names, rotation=90, fontsize=8, parse_math=False)
            axes.set_yticks(range(count), names, fontsize=8, parse_math=False)
        axes.set(xlabel="seen", ylabel="forecast")
        axes.set_title(MEASURES[measure], fontsize=9)
        figure.colorbar(shown, ax=axes, label="weight", shrink=0.8)
    figure.suptitle(title, fontsize=10, parse_math=False)
    return as_png(figure)

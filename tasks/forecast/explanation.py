"""Where the network looked: its attention over the steps of the history, below the series, or over the channels."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from core.explain import AttentionCall
from tasks.explanation import encoder_weights
from tasks.figures import as_png
from tasks.forecast.drawing import draw_history, plain_times
from tasks.forecast.model import Forecaster
from tasks.forecast.report import file_names, in_units
from tasks.run import output_names

Weights = dict[str, Float[Tensor, "..."]]
TITLES = {
    "last_layer": "encoder's last layer",
    "rollout": "attention rollout through all layers",
    "cross_attention": "decoder's last layer: where each step ahead looks",
}
"""What the weights are."""


@torch.no_grad()
def explain(model: Forecaster, encoder: Sequence[AttentionCall], decoder: AttentionCall | None = None) -> Weights:
    """The weights with which a network saw what it forecast one sample from.

    Where tokens are stretches of time, `last_layer` and `rollout` are (sequences, context): of each sequence that is
    encoded by itself - a channel, or all together - the weight of each step, a token's being spread evenly over its
    steps; what looks is the mean of all tokens, as the forecast reads them all alike. They sum to 1, less what tokens
    of the future's covariates were given. With a decoder, `cross_attention` is its last layer's attention to the
    encoder (sequences, horizon, context). Where tokens are channels, `last_layer` and `rollout` are (channels,
    channels), covariates after the channels: rows look, columns are seen. All are means over heads.

    Args:
        model: The network.
        encoder: The call of each of the encoder's layers, for this sample.
        decoder: The call of the decoder's last attention to the encoder, if there is one.
    """
    (sequences, _, length, _), device = encoder[0].q.shape, encoder[0].q.device
    token_steps, context = model.tokens.token_steps, model.shape.context_length
    if token_steps is None:
        reading = torch.eye(length, device=device)[None]
        return {name: each[0] for name, each in encoder_weights(encoder, reading).items()}
    padding = encoder[0].masks["key_padding_mask"]
    reading = torch.ones(sequences, length, device=device) if padding is None else (~padding).float()
    reading = (reading / reading.sum(1, keepdim=True).clamp(min=1))[:, None]
    weights = {name: each[:, 0] for name, each in encoder_weights(encoder, reading).items()}
    if decoder is not None:
        ahead = torch.eye(decoder.q.shape[2], device=device)[None, -model.shape.prediction_length :]
        weights["cross_attention"] = decoder.rows(ahead).mean(1)
    return {name: spread(each, token_steps, context) for name, each in weights.items()}


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
    counts = torch.tensor([last - first + 1 for first, last in token_steps], device=weights.device)
    share = (weights[..., : len(counts)] / counts).repeat_interleave(counts, dim=-1)
    covered = [step for first, last in token_steps for step in range(first, last + 1)]
    steps = torch.tensor(covered, device=weights.device)
    return weights.new_zeros(*weights.shape[:-1], length).index_add(-1, steps, share)


def draw(batch: Mapping[str, Any], row: int, weights: Weights, name: str) -> Iterator[tuple[str, bytes]]:
    """Draws the weights of one sample's steps, as PNGs, each with what its name has further.

    For each sequence that is encoded by itself its history with the weights of its steps below on the same axis of
    time, and with a decoder those for each step ahead below these: in the data's own units if it is one channel,
    standardised if several go together.

    Args:
        batch: Has the sample.
        row: Where in it.
        weights: What `explain` gave for it.
        name: Of the file.
    """
    channel_names: list[str] = batch["channel_names"]
    title, times = _title(batch, row, name), batch["past_times"][row]
    if len(weights["last_layer"]) < len(channel_names):
        missing = batch["past_mask"][row].cpu()
        together = batch["past"][row].cpu().masked_fill(missing, torch.nan).numpy()
        yield "", _draw_times(weights, 0, times, together, f"{title}: {len(channel_names)} channels, standardised")
        return
    unlike = output_names([f"_{part}.png" for part in file_names(channel_names)]) if len(channel_names) > 1 else [""]
    for number, part in enumerate(unlike):
        values = in_units(batch, "past", [row])[0, :, number : number + 1]
        yield part, _draw_times(weights, number, times, values, f"{title}, {channel_names[number]}")


def draw_channels(batch: Mapping[str, Any], row: int, weights: Weights, name: str) -> Iterator[tuple[str, bytes]]:
    """Draws which channel looked at which, where channels are tokens; the arguments are those of `draw`."""
    names = [*batch["channel_names"]]
    names += [f"covariate {number}" for number in range(1, len(weights["last_layer"]) - len(names) + 1)]
    yield "", _draw_square(weights, names, _title(batch, row, name))


def _title(batch: Mapping[str, Any], row: int, name: str) -> str:
    return ", ".join([name, *filter(None, [batch["names"][row]])])


def _draw_times(
    weights: Weights, number: int, times: pd.DatetimeIndex, values: Float[np.ndarray, "steps channels"], title: str
) -> bytes:
    """The history of a sequence, shaded by the last layer's weights, and below it the weights of its steps."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 8 if "cross_attention" in weights else 5), layout="constrained")
    above, below, *last = figure.subplots(2 + ("cross_attention" in weights), 1, sharex=True)
    for channel in values.T:
        draw_history(above, times, channel)
    above.set_title(title, fontsize=10, parse_math=False)
    steps = plain_times(times)
    shade, limits = weights["last_layer"][number].numpy(), above.get_ylim()
    light = LinearSegmentedColormap.from_list("light", ["white", "#ffb570"])  # a line over it is still seen
    look: Any = {"cmap": light, "vmin": 0, "vmax": max(shade.max(), 1e-12), "zorder": -1}
    above.pcolormesh(steps, limits, np.stack([shade, shade]), shading="nearest", **look)
    above.set_ylim(limits)
    for measure, color in [("last_layer", "tab:orange"), ("rollout", "tab:green")]:
        share = weights[measure][number].numpy() * len(steps)
        below.plot(steps, share, drawstyle="steps-mid", color=color, label=TITLES[measure])
    below.axhline(1, color="gray", linewidth=0.8, linestyle=":", label="all steps alike")
    below.set(ylabel="attention to a step", ylim=(0, None))
    below.grid(alpha=0.3)
    below.legend(fontsize=8, loc="lower right")
    for axes in last:
        seen = weights["cross_attention"][number].numpy()
        shown = axes.pcolormesh(steps, np.arange(1, len(seen) + 1), seen, shading="nearest", cmap="inferno")
        axes.set_ylabel("step ahead")
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.set_title(TITLES["cross_attention"], fontsize=9)
        figure.colorbar(shown, ax=axes, label="weight", pad=0.01)
    return as_png(figure)


def _draw_square(weights: Weights, names: list[str], title: str) -> bytes:
    """A square of weights for each measure: rows look, columns are seen."""
    from matplotlib.figure import Figure

    count = len(names)
    side = min(3 + 0.3 * count, 20.0)
    figure = Figure(figsize=(2 * side, side + 0.5), layout="constrained")
    for axes, (measure, seen) in zip(figure.subplots(1, 2), weights.items(), strict=True):
        shown = axes.imshow(seen.numpy(), cmap="inferno", interpolation="none")
        if count <= 60:  # more would lie over each other
            axes.set_xticks(range(count), names, rotation=90, fontsize=8, parse_math=False)
            axes.set_yticks(range(count), names, fontsize=8, parse_math=False)
        axes.set(xlabel="seen", ylabel="forecast")
        axes.set_title(TITLES[measure], fontsize=9)
        figure.colorbar(shown, ax=axes, label="weight", shrink=0.8)
    figure.suptitle(title, fontsize=10, parse_math=False)
    return as_png(figure)

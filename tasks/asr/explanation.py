"""Where the network listened for what it recognised: attention over time, below the spectrogram."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from core.explain import AttentionCall, record_attention
from tasks.asr.alignment import Word, split_words
from tasks.asr.features import MelFeatures
from tasks.asr.joining import Window
from tasks.asr.losses import shift
from tasks.asr.model import ASR, Encoded
from tasks.explanation import encoder_weights
from tasks.figures import as_png

TITLES = {
    "cross_attention": "decoder's last layer: where it listens to say each token",
    "posteriors": "CTC: the probability of each token in each frame",
    "last_layer": "encoder's last layer: where each word's own frames look",
    "rollout": "attention rollout through the encoder: from each word's own frames",
}
OF_WORDS = ("last_layer", "rollout")
"""The measures that have a row a word, and not a token."""
HERTZ = (250, 500, 1000, 2000, 4000, 8000, 16_000)
"""Frequencies that the axis of mel bands names."""
TALLEST = 24.0
"""Inches that the rows of all measures take at most."""
ROW = 0.16
"""Inches of a token's or word's row, where there are not too many."""

Heard = Float[Tensor, "rows frames"]


class Listening(NamedTuple):
    """What was recognised in a stretch of audio, and where the network listened for it.

    Attributes:
        pieces: The text piece of each token.
        words: The words of the text.
        weights: `cross_attention` or, without a decoder, `posteriors`, of each token; and `last_layer` and `rollout` of
            each word; all over the encoder's frames.
        features: Of each frame, before subsampling.
    """

    pieces: list[str]
    words: list[str]
    weights: dict[str, Heard]
    features: Float[Tensor, "feature_frames features"]


def explain(
    model: ASR,
    batch: dict[str, Any],
    predicted: dict[str, Any],
    layers: Sequence[Sequence[AttentionCall]],
    vocabulary: Sequence[str],
) -> Iterator[Listening]:
    """Explains the utterances of a batch, one after the other.

    A token is explained by `cross_attention` or, without a decoder, by `ctc_posteriors`; a word by what the encoder's
    frames between its start and its end saw, in the mean (`word_frames`).

    Args:
        model: The recogniser.
        batch: Has `audio` and `audio_lengths`.
        predicted: Has the `tokens` that were recognised, and `windows` with the words.
        layers: Of each layer of the encoder the calls, one for each utterance that has frames.
        vocabulary: The text piece of each token.
    """
    with torch.no_grad():
        encoded = model.encode(batch["audio"], batch["audio_lengths"])
        tokens, windows = predicted["tokens"], predicted["windows"]
        measure, method = (
            ("posteriors", ctc_posteriors) if model.decoder is None else ("cross_attention", cross_attention)
        )
        heard = method(model, encoded, tokens)
        # By their full lengths: digital silence, which is not encoded, has a spectrogram too.
        features, lengths = model.features(batch["audio"], batch["audio_lengths"])
    calls = iter(zip(*layers, strict=True))
    for text, window, spoken, own, length in zip(tokens, windows, heard, features, lengths.tolist(), strict=True):
        pieces, frames = [vocabulary[int(token)] for token in text], spoken.shape[1]
        weights, words = {measure: spoken}, split_words(pieces)
        own_calls = next(calls) if frames else ()
        if words and frames:
            reading = word_frames(window, frames, model.frame_seconds).to(spoken)
            for row, (word, (_, indices)) in enumerate(zip(window.words, words, strict=True)):
                if word.confidence is None and model.decoder is not None:  # its time is not known
                    reading[row] = spoken[indices].mean(0)
            weights |= {name: each[0] for name, each in encoder_weights(own_calls, reading[None]).items()}
        weights = {name: each.float().cpu() for name, each in weights.items()}
        yield Listening(pieces, [word for word, _ in words], weights, own[:length].float().cpu())


def word_frames(window: Window, frames: int, frame_seconds: float) -> Float[Tensor, "words {frames}"]:
    """The shares of the encoder's frames in each word: alike for those between its start and its end, else 0.

    Args:
        window: The words, timed from the start of the file.
        frames: Number of frames, at least 1.
        frame_seconds: From one frame to the next.
    """
    shares = torch.zeros(len(window.words), frames)
    for row, word in zip(shares, window.words, strict=True):
        first = min(int((word.start - window.start) / frame_seconds + 1e-6), frames - 1)
        end = max(math.ceil((word.end - window.start) / frame_seconds - 1e-6), first + 1)
        row[first:end] = 1 / len(row[first:end])
    return shares


@torch.no_grad()
def cross_attention(model: ASR, encoded: Encoded, tokens: Sequence[Sequence[int]]) -> list[Heard]:
    """The weights with which the decoder's last layer saw the frames when it said each token: means over its heads.

    The texts pass the decoder once. A token's row is that of the query that foretells it, whose own token is the one
    before; it sums to 1. The weights are those of any mechanism (`core.explain`).

    Raises:
        ValueError: If there is no decoder.
    """
    if model.decoder is None or model.tokens is None:
        raise ValueError(f"attention_weight={model.attention_weight}: the model has no decoder")
    frames = encoded.lengths.tolist()
    heard = [encoded.memory.new_zeros(len(text), length) for text, length in zip(tokens, frames, strict=True)]
    said = [number for number, text in enumerate(tokens) if len(text)]
    if not said:
        return heard
    device = encoded.memory.device
    texts = [torch.tensor(list(tokens[number]), device=device) for number in said]
    lengths = torch.tensor([len(text) for text in texts], device=device)
    given, _ = shift(pad_sequence(texts, batch_first=True), lengths, model.tokens.prompt, model.tokens.end)
    layer = f"decoder.layers.{len(model.decoder.layers) - 1}.cross_attention"
    with record_attention(model, layers=[layer]) as recorded:
        model.token_logits(given, encoded.select(torch.tensor(said, device=device)))
    (call,) = recorded[layer]
    first = len(model.tokens.prompt) - 1
    queries = torch.eye(call.q.shape[2], device=device)[None, first : first + int(lengths.max())]
    for number, weights in zip(said, call.rows(queries).mean(1), strict=True):
        heard[number] = weights[: len(tokens[number]), : frames[number]]
    return heard


@torch.no_grad()
def ctc_posteriors(model: ASR, encoded: Encoded, tokens: Sequence[Sequence[int]]) -> list[Heard]:
    """The probability that the CTC head gives each token of a text in each frame; a row does not sum to 1."""
    probs = model.ctc_log_probs(encoded).exp()
    rows = zip(probs, encoded.lengths.tolist(), tokens, strict=True)
    return [each[:frames, torch.tensor(list(text), dtype=torch.long)].T for each, frames, text in rows]


def draw(
    listening: Listening, window: Window, name: str, *, features: MelFeatures, frame_seconds: float
) -> Iterator[tuple[str, bytes]]:
    """Draws a window's spectrogram and, below it, rows of weights for its tokens and its words, as PNG.

    All have seconds of the file on one axis. Lines are the starts and ends of words that are aligned; words whose
    times are only spread over the window (`tasks.asr.alignment.spread`) have none.

    Args:
        listening: What is drawn.
        window: Where it lies in its file, and the words.
        name: The file.
        features: What made the features.
        frame_seconds: From one of the encoder's frames to the next.
    """
    labels = {measure: listening.words if measure in OF_WORDS else listening.pieces for measure in listening.weights}
    heights = [min(max(ROW * len(rows), 0.8), TALLEST / len(labels)) for rows in labels.values()]
    figure, above, *below = _axes(window, heights, max(map(len, [*listening.words, *listening.pieces]), default=0))
    spectrogram = listening.features.T.numpy()
    _heat(above, spectrogram, window.start, features.hop_seconds, origin="lower", cmap="viridis")
    bands = np.interp(HERTZ, features.band_frequencies.cpu().numpy(), range(len(spectrogram)), np.nan, np.nan)
    above.set_yticks(bands[np.isfinite(bands)], np.array(HERTZ)[np.isfinite(bands)])
    above.set_ylabel("Hz (mel bands)")
    for axes, height, (measure, weights) in zip(below, heights, listening.weights.items(), strict=True):
        values = weights.numpy()
        most = values.max(initial=1e-12)
        _heat(axes, values, window.start, frame_seconds, origin="upper", cmap="inferno", vmin=0.0, vmax=most)
        rows = range(0, len(values), math.ceil(ROW * len(values) / height) or 1)  # more would lie over each other
        axes.set_yticks(rows, [_shown(labels[measure][row]) for row in rows], fontsize=7, parse_math=False)
        title = f"{TITLES[measure]}; brightest {100 * most:.0f}%" if values.size else "nothing recognised"
        axes.set_title(title, fontsize=8, loc="left")
    below[-1].set(xlabel="seconds", xlim=(window.start, window.end))
    for row, word in enumerate(window.words):
        if word.confidence is not None:
            _mark(word, row, above, dict(zip(labels, below, strict=True)))
    figure.suptitle(f"{name}, {window.start:.2f} to {window.end:.2f} s", y=0.995, fontsize=9, parse_math=False)
    yield "", as_png(figure)


def _axes(window: Window, heights: Sequence[float], letters: int) -> tuple[Any, ...]:
    """A figure with axes one above the other, the spectrogram's first: in inches, as a layout engine takes its time.

    Args:
        window: What is drawn.
        heights: Of the axes below the spectrogram, in inches.
        letters: Of the longest label.
    """
    from matplotlib.figure import Figure

    label, gap, count = min(0.085 * letters, 2.0), 0.35, len(heights)
    width = min(max(3.0 + 0.6 * (window.end - window.start), 8.0), 20.0)
    left, top, bottom = max(0.3 + label, 0.75), 0.45 + label, 0.5
    every = [2.2, *heights]
    height = top + sum(every) + gap * count + bottom
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(
        left / width, bottom / height, 1 - 0.15 / width, 1 - top / height, hspace=gap / (sum(every) / len(every))
    )
    return figure, *figure.subplots(1 + count, 1, sharex=True, height_ratios=every)


def _heat(axes: Any, values: Float[np.ndarray, "rows frames"], start: float, frame_seconds: float, **look: Any) -> None:
    """Values over seconds of the file; frame n lies from `start + n * frame_seconds` to the next."""
    if values.size:
        rows, frames = values.shape
        edges = (-0.5, rows - 0.5) if look["origin"] == "lower" else (rows - 0.5, -0.5)
        extent = (start, start + frames * frame_seconds, *edges)
        axes.imshow(values, extent=extent, aspect="auto", interpolation="none", **look)


def _mark(word: Word, row: int, above: Any, below: Mapping[str, Any]) -> None:
    """Dotted lines where a word starts and ends, in its own row where there are rows of words; the word on top."""
    edges, look = (word.start, word.end), {"color": "white", "linewidth": 0.8, "linestyle": ":"}
    for measure, axes in {"": above, **below}.items():
        if measure in OF_WORDS:
            axes.vlines(edges, row - 0.5, row + 0.5, **look)
        else:
            for edge in edges:
                axes.axvline(edge, **look)
    place = {"transform": above.get_xaxis_transform(), "ha": "center", "va": "bottom", "rotation": 90}
    above.text((word.start + word.end) / 2, 1.02, _shown(word.text), fontsize=8, parse_math=False, **place)


def _shown(text: str) -> str:
    """A text whose spaces can be seen, and which has nothing that cannot be drawn.

    >>> _shown(" a")
    '␣a'
    """
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text.replace(" ", "␣"))

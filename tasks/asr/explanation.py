"""Where each recognised token was heard: the decoder's cross-attention over time, below the spectrogram."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from core.explain import record_attention
from tasks.asr.alignment import Word
from tasks.asr.features import Audio, Lengths, MelFeatures
from tasks.asr.joining import Window
from tasks.asr.losses import shift
from tasks.asr.model import ASR, Encoded
from tasks.figures import as_png
from tasks.run import output_names, write_anew

POSTERIORS = "CTC posteriors (there is no decoder, and so no cross-attention)"
HERTZ = (250, 500, 1000, 2000, 4000, 8000, 16_000)
"""Frequencies that the axis of mel bands names."""
TALLEST = 50.0
"""Inches that the rows of tokens take at most."""
ROW = 0.14
"""Inches of a token's row, where there are not too many."""

Heard = Float[Tensor, "tokens frames"]


class Explanation(NamedTuple):
    """What was recognised in a stretch of audio, and where the network looked for it.

    Attributes:
        pieces: The text piece of each token.
        weights: Of each token, over the encoder's frames.
        measure: What the weights are.
        features: Of each frame, before subsampling.
    """

    pieces: list[str]
    weights: Heard
    measure: str
    features: Float[Tensor, "feature_frames features"]


def explain(
    model: ASR,
    audio: Audio,
    audio_lengths: Lengths,
    encoded: Encoded,
    tokens: Sequence[Sequence[int]],
    vocabulary: Sequence[str],
) -> list[Explanation]:
    """Explains each utterance of a batch, by `cross_attention` or, without a decoder, by `ctc_posteriors`.

    Args:
        model: The recogniser.
        audio: Samples in [-1, 1].
        audio_lengths: Samples of each utterance.
        encoded: What the encoder gave for them.
        tokens: What was recognised in each.
        vocabulary: The text piece of each token.
    """
    if model.decoder is None:
        measure, weights = POSTERIORS, ctc_posteriors(model, encoded, tokens)
    else:
        measure = f"cross-attention, mean over the heads of layer {len(model.decoder.layers)}, the decoder's last"
        weights = cross_attention(model, encoded, tokens)
    # By their full lengths: digital silence, which is not encoded, has a spectrogram too.
    features, lengths = model.features(audio, audio_lengths)
    return [
        Explanation([vocabulary[token] for token in text], heard.float().cpu(), measure, own[:frames].float().cpu())
        for text, heard, own, frames in zip(tokens, weights, features, lengths.tolist(), strict=True)
    ]


@torch.no_grad()
def cross_attention(model: ASR, encoded: Encoded, tokens: Sequence[Sequence[int]]) -> list[Heard]:
    """The weights with which the decoder's last layer saw the frames when it said each token: means over its heads.

    The texts pass the decoder once. A token's row is that of the query that foretells it, whose own token is the one
    before; it sums to 1. The weights are those of any mechanism (`core.explain.record_attention`).

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
    first = len(model.tokens.prompt) - 1
    layer = f"decoder.layers.{len(model.decoder.layers) - 1}.cross_attention"
    with record_attention(model, layers=[layer]) as recorded:
        model.token_logits(given, encoded.select(torch.tensor(said, device=device)))
    for number, weights in zip(said, recorded[layer][0].mean(1), strict=True):
        heard[number] = weights[first : first + len(tokens[number]), : frames[number]]
    return heard


@torch.no_grad()
def ctc_posteriors(model: ASR, encoded: Encoded, tokens: Sequence[Sequence[int]]) -> list[Heard]:
    """The probability that the CTC head gives each token of a text in each frame; a row does not sum to 1."""
    probs = model.ctc_log_probs(encoded).exp()
    rows = zip(probs, encoded.lengths.tolist(), tokens, strict=True)
    return [each[:frames, torch.tensor(list(text), dtype=torch.long)].T for each, frames, text in rows]


def save_explanations(batches: Sequence[dict[str, Any]], names: Sequence[str], folder: Path, model: ASR) -> None:
    """Writes `attention/NAME_STARTs.png` and `.npz` for each window of each file, START being its first second.

    A PNG is what `draw` draws. The `.npz` holds `pieces`, `weights` (tokens, frames), `measure`, what the weights are,
    `start` of the window and `frame_seconds`, from one frame to the next. Earlier files are kept under another name.

    Args:
        batches: Of each batch the `index` of its windows' files among `names`, `windows`, what was heard in each, and
            `explanations`.
        names: Path of each file.
        folder: Where to write.
        model: The recogniser.
    """
    outputs = output_names(names)
    for batch in batches:
        for index, window, each in zip(batch["index"].tolist(), batch["windows"], batch["explanations"], strict=True):
            base = folder / "attention" / f"{outputs[index]}_{window.start:09.3f}s"
            arrays = {"pieces": np.array(each.pieces, dtype=str), "weights": each.weights.numpy()}
            arrays |= {"measure": each.measure, "start": window.start, "frame_seconds": model.frame_seconds}
            content = io.BytesIO()
            np.savez_compressed(content, **arrays)
            picture = draw(each, window, str(names[index]), features=model.features, frame_seconds=model.frame_seconds)
            for suffix, data in {".png": picture, ".npz": content.getvalue()}.items():
                write_anew(base.with_name(base.name + suffix), data)


def draw(explanation: Explanation, window: Window, name: str, *, features: MelFeatures, frame_seconds: float) -> bytes:
    """Draws a window's spectrogram and, below it, a row of weights for each token, as PNG.

    Both have seconds of the file on one axis. Lines are the starts and ends of words that are aligned; words whose
    times are only spread over the window (`tasks.asr.alignment.spread`) have none.

    Args:
        explanation: What is drawn.
        window: Where it lies in its file, and the words.
        name: The file.
        features: What made the features.
        frame_seconds: From one of the encoder's frames to the next.
    """
    from matplotlib.figure import Figure

    seconds, count = window.end - window.start, len(explanation.pieces)
    height = min(max(ROW * count, 0.6), TALLEST)
    figure = Figure(figsize=(min(max(3.0 + 0.6 * seconds, 8.0), 20.0), height + 3.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, height])
    spectrogram, weights = explanation.features.T.numpy(), explanation.weights.numpy()
    _heat(
        above, spectrogram, window.start, features.hop_seconds, "normalised log power", origin="lower", cmap="viridis"
    )
    bands = np.interp(HERTZ, features.band_frequencies.cpu().numpy(), range(len(spectrogram)), np.nan, np.nan)
    above.set_yticks(bands[np.isfinite(bands)], np.array(HERTZ)[np.isfinite(bands)])
    above.set_ylabel("Hz (mel bands)")
    most = weights.max(initial=1e-12)
    look = {"origin": "upper", "cmap": "inferno", "vmin": 0.0, "vmax": most}
    _heat(below, weights, window.start, frame_seconds, "weight", **look)
    rows = range(0, count, math.ceil(ROW * count / TALLEST) or 1)
    below.set_yticks(rows, [_shown(explanation.pieces[row]) for row in rows], fontsize=7, parse_math=False)
    below.set_ylabel("token" if count else "nothing recognised")
    below.set(xlabel="seconds", xlim=(window.start, window.end))
    for word in window.words:
        if word.confidence is not None:
            _mark(word, above, below)
    title = f"{Path(name).name}, {window.start:.2f} to {window.end:.2f} s\n{explanation.measure}"
    figure.suptitle(title, fontsize=9, parse_math=False)
    return as_png(figure)


def _heat(
    axes: Any, values: Float[np.ndarray, "rows frames"], start: float, frame_seconds: float, unit: str, **look: Any
) -> None:
    """Values over seconds of the file; frame n lies from `start + n * frame_seconds` to the next."""
    if values.size:
        rows, frames = values.shape
        edges = (-0.5, rows - 0.5) if look["origin"] == "lower" else (rows - 0.5, -0.5)
        extent = (start, start + frames * frame_seconds, *edges)
        shown = axes.imshow(values, extent=extent, aspect="auto", interpolation="none", **look)
        axes.figure.colorbar(shown, ax=axes, pad=0.01, label=unit)


def _mark(word: Word, above: Any, below: Any) -> None:
    """Lines where a word starts and ends, and the word itself on top."""
    for axes in (above, below):
        for edge in (word.start, word.end):
            axes.axvline(edge, color="white", linewidth=0.8, linestyle=":")
    place = {"transform": above.get_xaxis_transform(), "ha": "center", "va": "bottom", "rotation": 90}
    above.text((word.start + word.end) / 2, 1.02, _shown(word.text), fontsize=8, parse_math=False, **place)


def _shown(text: str) -> str:
    """A text whose spaces can be seen, and which has nothing that cannot be drawn.

    >>> _shown(" a")
    '␣a'
    """
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text.replace(" ", "␣"))

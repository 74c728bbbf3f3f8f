"""Speech recognition under Lightning: its losses, its error rates, its transcripts."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from core.explain import each_sequence
from tasks.asr import report
from tasks.asr.alignment import Word, align, fit_to_sound, joined, spread
from tasks.asr.decoding import AttentionGreedy, CTCGreedy, Decoding
from tasks.asr.evaluation import TranscriptEvaluation, compare_times, describe_worst, error_rates
from tasks.asr.explanation import draw, explain
from tasks.asr.feasibility import Infeasible, needed_frames
from tasks.asr.joining import Window
from tasks.asr.losses import ctc_loss, shift, token_loss
from tasks.asr.model import ASR, Encoded, FromFeatures
from tasks.base import ForExport, TaskModule
from tasks.errors import TaskError
from tasks.explanation import Explanation, Recorded
from tasks.means import Mean, shares
from tasks.run import write_whole

PARTS = {"train": "training", "val": "validation", "test": "test"}


class ASRModule(TaskModule):
    """Speech recognition by CTC and a decoder.

    Args:
        network: The network.
        facts: What the data knows: `vocabulary` and `sample_rate` at least.
        monitor: The metric that decides which checkpoint is the best.
        monitor_mode: Whether the best is the least or the greatest.
        decoding: Finds the texts of `test` and `predict`; the greedy one of CTC, or of the decoder where there is no
            CTC head, if not given. Validation always takes the greedy one, for its speed.
        label_smoothing: Share of the decoder's labels that is spread over all tokens.
        max_infeasible: The largest share of a part of the data whose texts may be too long for CTC to say them in the
            frames of their audio. These utterances are skipped.
        training: The arguments of `TaskModule`.
    """

    task = "asr"
    shown = "wer"
    network_class = ASR
    links = ("vocab_size", "sample_rate")
    facts_to_agree = ("sample_rate",)

    def __init__(
        self,
        network: ASR,
        *,
        facts: dict[str, Any],
        monitor: str = "val/wer",
        monitor_mode: Literal["min", "max"] = "min",
        decoding: Decoding | None = None,
        label_smoothing: float = 0.1,
        max_infeasible: float = 0.01,
        **training: Any,
    ) -> None:
        super().__init__(network, facts=facts, monitor=monitor, monitor_mode=monitor_mode, **training)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing} is not in [0, 1)")
        self.asr = network
        self.greedy: Decoding = AttentionGreedy() if network.ctc_head is None else CTCGreedy()
        self.decoding = self.greedy if decoding is None else decoding
        self.decoding.check(network)
        self.label_smoothing = label_smoothing
        self.infeasible = {stage: Infeasible(max_infeasible) for stage in PARTS}
        self.evaluation = TranscriptEvaluation()
        self.worst = ""
        self.trained_batches = 0

    def metric_names(self) -> list[str]:
        ratio = [] if self.asr.ctc_head is None else ["val/blank_ratio"]
        return [*super().metric_names(), "val/wer", "val/cer", *ratio]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if checkpoint["onecore"]["facts"]["vocabulary"] != self.facts["vocabulary"]:
            raise TaskError(
                "the data's text pieces are not those that the checkpoint was trained with, so it cannot go on: "
                "start anew, or go on with the checkpoint's own data"
            )

    def on_train_epoch_start(self) -> None:
        self.trained_batches = 0

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        self.trained_batches += 1
        encoded = self.asr.encode(batch["audio"], batch["audio_lengths"])
        values = self._with_loss(shares(self._means(encoded, batch, "train")))
        self.log_training(values)
        return values["loss"]

    def on_train_epoch_end(self) -> None:
        # A share of less than the whole part, as after a stop within the epoch, says nothing of the part.
        if self.trained_batches == self.trainer.num_training_batches:
            self.infeasible["train"].check(PARTS["train"])

    def measure(self, batch: dict[str, Any], stage: str) -> None:
        encoded = self.asr.encode(batch["audio"], batch["audio_lengths"])
        self.means.update(self._means(encoded, batch, stage))
        decoding = self.greedy if stage == "val" else self.decoding
        found = [each.tokens for each in decoding(self.asr, encoded)]
        edges = None
        if stage == "test" and "words" in batch and self.asr.ctc_head is not None:
            heard = self._words(encoded, found, batch)
            times = [[(word.text, word.start, word.end) for word in words] for words in heard]
            edges = [compare_times(*pair) for pair in zip(times, batch["words"], strict=True)]
        self.evaluation.update(batch["name"], batch["text"], [self.text(tokens) for tokens in found], edges)

    def figures(self, stage: str) -> dict[str, Tensor | float]:
        utterances, means = self.evaluation.gather(), self.means.gather()
        self.evaluation.reset()
        self.worst = describe_worst(utterances)
        if self.trainer.sanity_checking:
            self.infeasible[stage].reset()
        else:
            self.infeasible[stage].check(PARTS[stage])
        return {**(self._with_loss(means) if means else {}), **error_rates(utterances)}

    def save_plots(self, folder: Path) -> None:
        write_whole(folder / "worst.txt", self.worst)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        windows, tokens = [], []
        if len(batch["index"]):
            encoded = self.asr.encode(batch["audio"], batch["audio_lengths"])
            tokens = [each.tokens for each in self.decoding(self.asr, encoded)]
            durations = (batch["audio_lengths"] / self.asr.features.sample_rate).tolist()
            heard = self._words(encoded, tokens, batch)
            for start, duration, words in zip(batch["start"].tolist(), durations, heard, strict=True):
                windows.append(Window(start, start + duration, [word.later(start) for word in words]))
        return {"index": batch["index"], "failed": batch["failed"], "windows": windows, "tokens": tokens}

    def for_export(self) -> ForExport:
        features = torch.randn(2, 200, self.asr.features.num_features)
        return ForExport(FromFeatures(self.asr), {"features": features}, free={"features": ("batch", "frames")})

    def save_predictions(self, batches: list[dict[str, Any]], names: list[str], folder: Path) -> Path:
        return report.save_predictions(batches, names, folder)

    def explain(
        self, batch: dict[str, Any], predicted: dict[str, Any], recorded: Recorded, names: Sequence[str]
    ) -> Iterator[Explanation]:
        frame_seconds, layers = self.asr.frame_seconds, [each_sequence(calls) for calls in recorded.values()]
        every = explain(self.asr, batch, predicted, layers, self.facts["vocabulary"])
        for index, window, each in zip(batch["index"].tolist(), predicted["windows"], every, strict=True):
            arrays = {"pieces": np.array(each.pieces, dtype=str), "words": np.array(each.words, dtype=str)}
            arrays |= {"start": window.start, "frame_seconds": frame_seconds, **each.weights}
            name, features = Path(names[int(index)]).name, self.asr.features
            pictures = draw(each, window, name, features=features, frame_seconds=frame_seconds)
            yield Explanation(index, f"_{window.start:09.3f}s", arrays, pictures)

    def text(self, tokens: list[int]) -> str:
        """The text that tokens stand for."""
        return joined([self.facts["vocabulary"][token] for token in tokens])

    def _words(self, encoded: Encoded, found: list[list[int]], batch: dict[str, Any]) -> list[list[Word]]:
        """The words of each utterance's tokens, timed by CTC where there is a CTC head."""
        vocabulary, rate = self.facts["vocabulary"], self.asr.features.sample_rate
        audio = [row[:samples] for row, samples in zip(batch["audio"], batch["audio_lengths"].tolist(), strict=True)]
        if self.asr.ctc_head is None:
            pieces = ([vocabulary[token] for token in each] for each in found)
            return [spread(each, len(own) / rate) for each, own in zip(pieces, audio, strict=True)]
        words = []
        rows = zip(self.asr.ctc_log_probs(encoded), encoded.lengths.tolist(), found, audio, strict=True)
        for log_probs, frames, tokens, own in rows:
            placed = align(log_probs[:frames], tokens, vocabulary, self.asr.frame_seconds, len(own) / rate)
            words.append(fit_to_sound(placed, own, rate))
        return words

    def _means(self, encoded: Encoded, batch: dict[str, Any], stage: str) -> dict[str, Mean]:
        """The loss of each head, and the share of blanks."""
        tokens, lengths = batch["tokens"], batch["token_lengths"]
        kept = self._kept(encoded, batch, stage)
        means = {}
        if self.asr.ctc_head is not None:
            log_probs = self.asr.ctc_log_probs(encoded)
            means["ctc_loss"] = ctc_loss(log_probs, encoded.lengths, tokens, lengths, kept)
            means["blank_ratio"] = self._blanks(log_probs, encoded)
        if self.asr.decoder is not None:
            assert self.asr.tokens is not None
            most = self.asr.tokens.max_length  # the longer ones are not kept
            prompt, end = self.asr.tokens.prompt, self.asr.tokens.end
            given, labels = shift(tokens[:, :most], lengths.clamp(0, most), prompt, end)
            logits = self.asr.token_logits(given, encoded)
            means["attention_loss"] = token_loss(logits, labels, kept, self.label_smoothing if self.training else 0.0)
        return means

    def _with_loss(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adds the losses of both heads, weighted."""
        weights = {"ctc_loss": 1 - self.asr.attention_weight, "attention_loss": self.asr.attention_weight}
        return {
            **values,
            "loss": torch.stack([weights[each] * values[each] for each in weights if each in values]).sum(),
        }

    def _kept(self, encoded: Encoded, batch: dict[str, Any], stage: str) -> Tensor:
        """Which utterances CTC can say; the decoder alone can say all that it has positions for."""
        needed = needed_frames(batch["tokens"], batch["token_lengths"])
        kept = encoded.lengths >= (needed if self.asr.ctc_head is not None else 0)
        if self.asr.tokens is not None and self.asr.tokens.max_length is not None:
            kept &= batch["token_lengths"] <= self.asr.tokens.max_length
        self.infeasible[stage].update(kept, batch["name"], encoded.lengths, needed)
        return kept

    def _blanks(self, log_probs: Tensor, encoded: Encoded) -> Mean:
        """The share of frames whose best output is the blank: near 1, the network has learnt to say nothing."""
        best = log_probs.detach().argmax(-1)
        real = torch.arange(best.shape[1], device=best.device) < encoded.lengths[:, None]
        return Mean.of(((best == self.asr.vocab_size) & real).sum().float(), real.sum())

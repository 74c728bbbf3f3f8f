"""The command `explain` of every task: predicts, and writes what the network attended to beside it."""

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from core.explain import AttentionCall, Shares, attention_rollout, record_attention
from tasks.prediction import predict_files
from tasks.run import output_names, write_anew

Recorded = Mapping[str, Sequence[AttentionCall]]
"""The calls of each layer of attention, by its name in the network."""

_log = logging.getLogger(__name__)


class Explanation(NamedTuple):
    """What one prediction attended to.

    Attributes:
        file: Number of its file among those that are predicted.
        part: What the names of its files have behind the file's own, where several are explained.
        weights: Arrays, as they are saved.
        pictures: PNGs, each with what its name has further; drawn as they are asked for.
    """

    file: int
    part: str
    weights: Mapping[str, Any]
    pictures: Iterator[tuple[str, bytes]]


def explain(
    trainer: Trainer,
    model: Any,
    datamodule: Any,
    *,
    input: str,  # noqa: A002 - the command's own word
    output: str,
    most: int = 50,
) -> Path:
    """Predicts files, and shows where the network looked.

    Writes what `predict` writes, and for each prediction `attention/NAME*.npz`, the weights, and `attention/NAME*.png`,
    pictures of them; `docs/explain.md` says what is in them. Earlier files are kept under another name.

    Args:
        trainer: Runs the network.
        model: The task's module.
        datamodule: The data module of the training, which reads files like its own.
        input: A file, or a folder of files.
        output: The folder to write to.
        most: Pictures that are drawn at most; what is predicted after them is not explained.

    Returns:
        The folder `attention`.

    Raises:
        ValueError: If `most` is less than 1.
        TaskError: If files could not be read; the others are predicted and explained.
    """
    if most < 1:
        raise ValueError(f"most={most} must be at least 1")
    files, folder = datamodule.predict_files(Path(input)), Path(output)
    with record_attention(model.network, layers=model.explained_layers()) as recorded:
        names = [str(file) for file in files]
        trainer.callbacks.append(ExplanationWriter(recorded, names, folder / "attention", most))  # pyright: ignore[reportAttributeAccessIssue]
        predict_files(trainer, model, datamodule, files, folder)
    return folder / "attention"


class ExplanationWriter(Callback):
    """Writes the explanations of each batch as soon as it is predicted.

    Args:
        recorded: Where the attention of the network is recorded; emptied after each batch.
        names: Path of each file.
        folder: Where to write.
        most: Pictures that are drawn at most.
    """

    def __init__(self, recorded: dict[str, list[AttentionCall]], names: Sequence[str], folder: Path, most: int) -> None:
        self.recorded = recorded
        self.names = names
        self.outputs = output_names(names)
        self.folder = folder
        self.left = self.most = most
        self.taken: set[str] = set()
        self.explained = self.predicted = 0

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Takes a batch in."""
        recorded = {name: list(calls) for name, calls in self.recorded.items()}
        self.predicted += len(batch["index"])
        if self.left and len(batch["index"]):
            with trainer.precision_plugin.predict_step_context():
                for explanation in pl_module.explain(batch, outputs, recorded, self.names):
                    self._write(explanation)
                    if not self.left:
                        break
        for calls in self.recorded.values():
            calls.clear()

    def on_predict_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Says what was left out."""
        if self.explained < self.predicted:
            _log.info("explained the first %d of %d: --most=%d", self.explained, self.predicted, self.most)

    def _write(self, explanation: Explanation) -> None:
        base = self._unlike(self.outputs[explanation.file] + explanation.part)
        content = io.BytesIO()
        np.savez_compressed(content, **explanation.weights)
        write_anew(self.folder / f"{base}.npz", content.getvalue())
        for part, picture in explanation.pictures:
            write_anew(self.folder / f"{base}{part}.png", picture)
            self.left -= 1
            if not self.left:
                break
        self.explained += 1

    def _unlike(self, name: str) -> str:
        """The name, or one that no other explanation has."""
        plain, number = name, 2
        while name.lower() in self.taken:
            name, number = f"{plain}-{number}", number + 1
        self.taken.add(name.lower())
        return name


def encoder_layers(model: Any) -> list[str]:
    """The names of the encoder's layers of attention in a network, the first layer first."""
    return [f"encoder.layers.{number}.attention" for number in range(len(model.encoder.layers))]


def encoder_weights(
    calls: Sequence[AttentionCall], reading: Shares
) -> dict[str, Float[Tensor, "sequences rows tokens"]]:
    """What the encoder attended to: `last_layer`, means over heads, and `rollout`.

    Args:
        calls: Of each layer.
        reading: From where: the shares of the encoder's tokens in what the prediction reads.
    """
    with torch.no_grad():
        return {"last_layer": calls[-1].rows(reading).mean(1), "rollout": attention_rollout(calls, reading)}

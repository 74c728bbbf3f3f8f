"""Applies a trained module to the user's files: what `predict` does, and the page to try a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pytorch_lightning import LightningDataModule, Trainer

from tasks.base import TaskModule
from tasks.build import TaskParser
from tasks.checkpoint import read_checkpoint, rebuild
from tasks.errors import TaskError, UsageError
from tasks.mistakes import explain


class Trained(NamedTuple):
    """A run that can be applied, without the data that it was trained on.

    Attributes:
        model: The module, weights loaded.
        data: Reads the user's files as the training read its own.
    """

    model: TaskModule
    data: Any


def load_trained(path: str | Path, module_class: type[TaskModule]) -> Trained:
    """Rebuilds a run from its checkpoint.

    Args:
        path: The checkpoint.
        module_class: The task's module.

    Raises:
        TaskError: If the checkpoint is not one of this task, or its data module is not known here.
    """
    checkpoint = read_checkpoint(path, module_class.task)
    saved = checkpoint["onecore"]
    parser = TaskParser()
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    config = {"data": saved["config"]["data"]}
    try:
        data = parser.instantiate_classes(parser.parse_object(config))["data"]
    except UsageError as error:
        raise TaskError(f"{path}: its data cannot be read here: {explain(str(error), parser, [], config)}") from error
    data.restore_facts(saved["facts"])
    return Trained(rebuild(checkpoint, module_class), data)


class Applied(NamedTuple):
    """What came of files.

    Attributes:
        written: The main file of what was written, or the folder.
        failed: Of each file that could not be read, why; one line that names it.
    """

    written: Path
    failed: list[str]


def apply(trainer: Trainer, model: TaskModule, data: Any, files: Sequence[Path], folder: Path) -> Applied:
    """Predicts for files and writes what came of those that can be read.

    Args:
        trainer: Says where the network runs.
        model: The module.
        data: The data module, which knows the facts of the training.
        files: What `data.predict_files` has found.
        folder: Where to write; it is made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    batches: Any = trainer.predict(model, dataloaders=data.predict_loader(files))
    read = [batch for batch in batches if len(batch["index"])]
    written = model.save_predictions(read, [str(file) for file in files], folder)
    return Applied(written, [reason for batch in batches for _, reason in batch["failed"]])

"""A run as it can be applied from Python: the module, and what reads files as its training did."""

from pathlib import Path
from typing import Any, NamedTuple

from pytorch_lightning import LightningDataModule

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

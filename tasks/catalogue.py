"""The tasks that there are, and where their experiments stand; nothing heavy is imported."""

import importlib
from pathlib import Path
from typing import Any, NamedTuple

CONFIGS = Path(__file__).parents[1] / "configs"


class Task(NamedTuple):
    """What a task's command line is made of.

    Attributes:
        module: Where its `TaskModule` is.
        default: The experiment that `fit` runs without `--config`, a path below `configs`.
    """

    module: str
    default: str

    @property
    def config(self) -> Path:
        """The file of the default experiment."""
        return CONFIGS / self.default

    @property
    def module_class(self) -> Any:
        """The `TaskModule`, which is imported where it is asked for."""
        return import_object(self.module)


TASKS = {
    "vit": Task("tasks.vit.module.ViTModule", "vit/mnist.yaml"),
    "detr": Task("tasks.detr.module.DETRModule", "detr/digits.yaml"),
    "asr": Task("tasks.asr.module.ASRModule", "asr/sentences.yaml"),
    "forecast": Task("tasks.forecast.module.ForecastModule", "forecast/demand.yaml"),
}
"""By their names, in the order of the documents."""


def import_object(path: str) -> Any:
    """Imports what a dotted path names."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)

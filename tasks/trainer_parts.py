"""What each run's trainer has besides what the configuration names, and what Lightning need not say of it."""

import importlib.util
import logging
import warnings
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback, RichModelSummary, RichProgressBar
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.plugins import CheckpointIO

from tasks.base import TaskModule
from tasks.callbacks import BestCheckpoint, LastCheckpoint, MovingAverage, StopCleanly
from tasks.saving import MetricsLogger, WholeCheckpoints


def parts_without_a_run(given: Any) -> dict[str, Any]:
    """What the trainer of a command gets that keeps no run: nothing is logged.

    Args:
        given: The trainer's arguments as the configuration has them.
    """
    return {"logger": False, "callbacks": _shown(given)}


def parts_of_a_run(given: Any, folder: Path, model: TaskModule, *, trains: bool) -> dict[str, Any]:
    """Loggers, callbacks and plugins that every run has, after those that the configuration names.

    Args:
        given: The trainer's arguments as the configuration has them.
        folder: The run's.
        model: What is trained or measured.
        trains: Whether checkpoints are kept.
    """
    callbacks = _shown(given)
    if trains:
        if given["enable_model_summary"] is not False:
            callbacks.append(RichModelSummary())
        callbacks += _savers(given, folder / "checkpoints" / "last.ckpt", model)
    plugins = given["plugins"] if isinstance(given["plugins"], list) else [given["plugins"]]
    plugins = [plugin for plugin in plugins if plugin is not None]
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(WholeCheckpoints())
    logger = [MetricsLogger(str(folder), name="", version=""), *_loggers(given["logger"], folder)]
    return {"logger": logger, "callbacks": callbacks, "plugins": plugins, "default_root_dir": str(folder)}


def _shown(given: Any) -> list[Callback]:
    callbacks: list[Callback] = list(given["callbacks"] or [])
    return callbacks if given["enable_progress_bar"] is False else [*callbacks, RichProgressBar()]


def _savers(given: Any, last: Path, model: TaskModule) -> list[Callback]:
    """In this order: the checkpoint of who stops has the average with the last step in it."""
    savers: list[Callback] = [MovingAverage(model.ema_decay)] if model.ema_decay > 0 else []
    savers.append(StopCleanly(last, f"python -m tasks.{model.task} fit --ckpt_path {last}"))
    if given["fast_dev_run"] or given["enable_checkpointing"] is False:
        return savers
    return [*savers, BestCheckpoint(last.parent, model.monitor, model.monitor_mode), LastCheckpoint(last)]


def _loggers(given: Any, folder: Path) -> list[Logger]:
    if isinstance(given, Logger):
        return [given]
    if isinstance(given, list):
        return given
    if given is not False and importlib.util.find_spec("tensorboard"):
        return [TensorBoardLogger(str(folder), name="", version="")]
    return []


def quiet_lightning() -> None:
    """Leaves out what Lightning says of things that are as they should be."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        "does not have many workers",
        "Experiment logs directory",
        "TensorBoardLogger|LeafSpec",
        "in eval mode",
        "recommended to use `self.log",  # every figure is that of all processes already
        "was called before the ``update`` method",  # where a process has no sample of a part
    ):
        warnings.filterwarnings("ignore", message=f".*({message}).*")

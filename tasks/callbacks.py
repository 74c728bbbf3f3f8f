"""Callbacks that every run has: the best and the last checkpoint, a monitor that exists, Ctrl-C without loss."""

import difflib
import signal
import threading
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint, WeightAveraging
from torch import Tensor

from tasks.errors import Interrupted, UsageError
from tasks.processes import is_first
from tasks.run import write_whole


class BestCheckpoint(ModelCheckpoint):
    """Keeps `best.ckpt`; a resumed run takes the best so far along into its own folder.

    Args:
        folder: Where the checkpoints go.
        monitor: The metric that decides which is the best.
        mode: Whether the best is the least ("min") or the greatest ("max").
    """

    def __init__(self, folder: Path, monitor: str, mode: str) -> None:
        super().__init__(
            dirpath=folder,
            filename="best",
            monitor=monitor,
            mode=mode,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        earlier, best = Path(state_dict["best_model_path"]), Path(str(self.dirpath), "best.ckpt")
        if not earlier.is_file():
            return
        if is_first() and earlier.resolve() != best.resolve():
            best.parent.mkdir(parents=True, exist_ok=True)
            write_whole(best, earlier.read_bytes())
        score = state_dict["best_model_score"]
        super().load_state_dict(
            {
                **state_dict,
                "dirpath": self.dirpath,
                "best_model_path": str(best),
                "best_k_models": {str(best): score},
                "kth_best_model_path": str(best),
            }
        )


class LastCheckpoint(Checkpoint):
    """Keeps `last.ckpt`: the state after each validation, whatever it was.

    `ModelCheckpoint(save_last=True)` does so only when it has also found a new best.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            trainer.save_checkpoint(self.path)


class MovingAverage(WeightAveraging):
    """The exponential moving average of the weights, taken in after each step.

    Lightning's `EMAWeightAveraging` computes `decay * average + (1 - decay) * weight`, which rounds: weights that are
    frozen, or a frozen norm's counter, would drift. Here what does not move is its own average, to the last bit.

    Args:
        decay: Share of the average so far.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(avg_fn=partial(_move, share=1 - decay))


def _move(average: Tensor, weight: Tensor, num_averaged: Tensor, *, share: float) -> Tensor:  # noqa: ARG001 - as torch calls it
    return average + share * (weight - average)


def check_monitors(callbacks: Iterable[Callback], monitor: str, known: list[str]) -> None:
    """Refuses, before anything runs, a `monitor` that names no metric.

    Args:
        callbacks: Those of the run; of each, what it monitors is checked.
        monitor: What decides the best checkpoint.
        known: The metrics of validation.

    Raises:
        UsageError: If one names no metric of validation or training.
    """
    wanted = {
        "training": monitor,
        **{type(callback).__name__: getattr(callback, "monitor", None) for callback in callbacks},
    }
    for owner, name in wanted.items():
        if isinstance(name, str) and name not in known and not name.startswith("train/"):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise UsageError(
                f"{owner}.monitor={name} is never logged; did you mean {near[0]}? (there are {', '.join(known)})"
            )


class StopCleanly(Callback):
    """On Ctrl-C or SIGTERM ends the step that runs, saves `last.ckpt` and stops; a second Ctrl-C stops at once.

    Of several processes, one that is asked is enough, and all stop after the same step.

    Args:
        checkpoint: Where to save.
        how_to_resume: The command that goes on from there.
    """

    def __init__(self, checkpoint: Path, how_to_resume: str) -> None:
        self.checkpoint = checkpoint
        self.how_to_resume = how_to_resume
        self.asked = False
        self._earlier: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._earlier[number] = signal.signal(number, self._ask)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # After the last batch of an epoch comes its validation; one step into the next epoch nothing is half done.
        if not trainer.strategy.reduce_boolean_decision(self.asked, all=False) or trainer.is_last_batch:
            return
        trainer.save_checkpoint(self.checkpoint)
        raise Interrupted(f"stopped after step {trainer.global_step}; go on with: {self.how_to_resume}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore()

    def _ask(self, number: int, frame: object) -> None:
        if self.asked:
            self._restore()
            raise KeyboardInterrupt
        self.asked = True

    def _restore(self) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        self._earlier.clear()

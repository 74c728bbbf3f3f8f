"""What the Lightning modules of all tasks share."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tasks.errors import TaskError
from tasks.explanation import Explanation, Recorded, encoder_layers, explain
from tasks.optim import OptimizerFactory, build_optimizer, freeze_parts, rest_frozen_parts
from tasks.schedules import WarmupCosine

ScheduleFactory = Callable[[Optimizer, int], LRScheduler]


class TaskModule(LightningModule):
    """Trains a network: optimiser, schedule, frozen parts, averaged weights, and the randomness of each step.

    Every random number of a training step is drawn after seeding with (run's seed, step), so that a run which is
    stopped and resumed draws the same ones.

    Args:
        network: The network, a plain `torch.nn.Module`.
        facts: What the data knows and the task needs (names of classes, size of pictures, ...), plain values.
        optimizer: Makes the optimiser from parameter groups.
        schedule: Makes the schedule of the learning rate, by step, from the optimiser and the number of steps.
        layer_decay: Ratio of the learning rates of a layer and the next; 1 = all learn alike.
        lr_scale: Factors of the learning rate of parts of the network, as `{backbone: 0.1}`.
        freeze: Names of parts of the network that are not trained, as `encoder`; they work as in evaluation, without
            dropout and by the statistics that a batch norm has.
        ema_decay: Decay of the exponential moving average of the weights, which is then what is validated, saved
            and used; 0 = no averaging.
        monitor: The metric that decides which checkpoint is the best.
        monitor_mode: Whether the best is the least or the greatest.
    """

    task: ClassVar[str]
    network_class: ClassVar[type[nn.Module]]
    links: ClassVar[tuple[str, ...]]
    """Arguments of the network that the data's facts of the same name set."""
    commands: ClassVar[dict[str, Callable[..., Path]]] = {"explain": explain}
    """Commands that use a checkpoint, beside Lightning's: each a function of a trainer, the module and the data module,
    by keyword `model` and `datamodule`. Its further arguments are the command's; it returns where its results are."""
    facts_to_agree: ClassVar[tuple[str, ...]] = ()
    """Facts in which data and checkpoint must agree, for the checkpoint to be trained on or tested."""

    def __init__(
        self,
        network: nn.Module,
        *,
        facts: dict[str, Any],
        optimizer: OptimizerFactory = AdamW,
        schedule: ScheduleFactory = WarmupCosine,
        layer_decay: float = 1.0,
        lr_scale: dict[str, float] | None = None,
        freeze: list[str] | None = None,
        ema_decay: float = 0.0,
        monitor: str = "val/loss",
        monitor_mode: Literal["min", "max"] = "min",
    ) -> None:
        super().__init__()
        if not 0 <= ema_decay < 1:
            raise ValueError(f"ema_decay={ema_decay} is not in [0, 1)")
        self.network = network
        self.facts = facts
        self.config: dict[str, Any] = {}
        """The run's resolved configuration; the command line sets it, and checkpoints carry it."""
        self.optimizer_factory = optimizer
        self.schedule_factory = schedule
        self.layer_decay = layer_decay
        self.lr_scale = lr_scale
        self.ema_decay = ema_decay
        self.monitor = monitor
        self.monitor_mode = monitor_mode
        freeze_parts(network, freeze or [])
        rest_frozen_parts(network)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        rest_frozen_parts(self.network)
        return self

    def metric_names(self) -> list[str]:
        """The metrics of validation that `monitor` can name."""
        return ["val/loss"]

    def save_plots(self, folder: Path) -> None:
        """Draws what the last test has shown, as files in `folder`."""

    def save_predictions(self, batches: list[Any], names: list[str], folder: Path) -> Path:
        """Writes the outputs of `predict_step`, one record for each of `names`, and returns the main file."""
        raise TaskError(f"{self.task} has no predictions to write")

    def explained_layers(self) -> list[str]:
        """The layers of attention that `explain` asks for, by their names in the network: the encoder's."""
        return encoder_layers(self.network)

    def explain(self, batch: Any, predicted: Any, recorded: Recorded, names: Sequence[str]) -> Iterator[Explanation]:
        """Says what each prediction of a batch attended to, in the batch's order.

        Args:
            batch: What `predict_step` got.
            predicted: What it gave.
            recorded: The calls of each of `explained_layers` in it.
            names: Path of each file.
        """
        raise TaskError(f"{self.task} has nothing to explain")

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(
            self.network, self.optimizer_factory, layer_decay=self.layer_decay, lr_scale=self.lr_scale
        )
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise TaskError("the schedule needs an end: set trainer.max_epochs or trainer.max_steps")
        scheduler = self.schedule_factory(optimizer, int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        step = self.trainer.fit_loop.epoch_loop.total_batch_idx
        # Multipliers spread neighbouring (seed, step, rank) over the generator's 64-bit seeds.
        mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xC2B2AE3D27D4EB4F + self.global_rank * 0x165667B19E3779F9) % 2**63
        torch.manual_seed(mixed)

    def on_before_backward(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            raise TaskError(
                f"the loss is {loss.item()} at step {self.global_step} (learning rate {rate:.3g}): training stopped, "
                "the checkpoints of earlier steps are kept; lower training.optimizer.lr or set "
                "trainer.gradient_clip_val=1"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        metrics = {
            name: float(value) for name, value in self.trainer.callback_metrics.items() if name.startswith("val/")
        }
        checkpoint["onecore"] = {"task": self.task, "config": self.config, "facts": self.facts, "metrics": metrics}

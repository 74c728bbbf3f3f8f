"""What the Lightning modules of all tasks share."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from pytorch_lightning.utilities import GradClipAlgorithmType
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tasks.errors import TaskError
from tasks.explanation import Explanation, Recorded, encoder_layers, explain
from tasks.means import Means
from tasks.optim import OptimizerFactory, build_optimizer, freeze_parts, rest_frozen_parts
from tasks.processes import averaged, share_buffers
from tasks.schedules import WarmupCosine

ScheduleFactory = Callable[[Optimizer, int], LRScheduler]


class ForExport(NamedTuple):
    """A network as other runtimes take it.

    Attributes:
        network: The network, without what a graph cannot hold.
        inputs: An example of its inputs, by name.
        free: Names of the first axes of each, which may have any length.
    """

    network: nn.Module
    inputs: dict[str, Tensor]
    free: dict[str, tuple[str, ...]]


class TaskModule(LightningModule):
    """Trains a network: optimiser, schedule, frozen parts, averaged weights, and the randomness of each step.

    Every random number of a training step is drawn after seeding with (run's seed, step), so that a run which is
    stopped and resumed draws the same ones.

    A task says what becomes of a batch of an evaluation (`measure`) and what is known at its end (`figures`). Processes
    may have unequal numbers of batches, or none: nothing but `figures` asks the others.

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
    shown: ClassVar[str]
    """The figure that the progress bar shows."""
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
        self.means = Means()
        self.config: dict[str, Any] = {}
        """The run's resolved configuration; the command line sets it, and checkpoints carry it."""
        self.provenance: dict[str, Any] = {}
        """Where the weights come from, as far as it is known: `commands`, `commit` and `date` of the run, which its
        checkpoints carry; of a checkpoint that was read also its `file` and `metrics`."""
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

    def measure(self, batch: Any, stage: str) -> Any:
        """Takes a batch of the part `val` or `test` in; what it returns is the step's output."""
        raise NotImplementedError

    def figures(self, stage: str) -> Mapping[str, Tensor | float]:
        """The figures of a part whose batches are in, of all processes together; then it begins anew."""
        return self.means.gather()

    def save_plots(self, folder: Path) -> None:
        """Draws what the last test has shown, as files in `folder`."""

    def save_predictions(self, batches: list[Any], names: list[str], folder: Path) -> Path:
        """Writes the outputs of `predict_step`, one record for each of `names`, and returns the main file."""
        raise TaskError(f"{self.task} has no predictions to write")

    def for_export(self) -> ForExport:
        """The network as other runtimes take it, with an example of its inputs."""
        raise TaskError(f"{self.task} has no network to export")

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

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips what Lightning does not: by the norm of all parts of divided weights; a fused optimiser in bfloat16.

        What Lightning refuses the latter for, float16 alone has.
        """
        algorithm = GradClipAlgorithmType(gradient_clip_algorithm or "norm")
        whole, precision = self.trainer.model, self.trainer.precision_plugin
        if isinstance(whole, FullyShardedDataParallel) and gradient_clip_val and algorithm == "norm":
            whole.clip_grad_norm_(gradient_clip_val)
            return
        if isinstance(precision, MixedPrecision) and gradient_clip_val:
            if precision.scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
                raise TaskError(
                    f"trainer.gradient_clip_val={gradient_clip_val}: a fused optimiser scales gradients back itself in "
                    "float16, after they would be clipped; give --trainer.precision=bf16-mixed, or "
                    "--training.optimizer.fused=false"
                )
            Precision.clip_gradients(precision, optimizer, gradient_clip_val, algorithm)
            return
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_fit_start(self) -> None:
        if isinstance(self.trainer.model, DistributedDataParallel):
            # It would ask all processes for them at batches of a validation too, of which one may have fewer.
            self.trainer.model.broadcast_buffers = False

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        step = self.trainer.fit_loop.epoch_loop.total_batch_idx
        # Multipliers spread neighbouring (seed, step, rank) over the generator's 64-bit seeds.
        mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xC2B2AE3D27D4EB4F + self.global_rank * 0x165667B19E3779F9) % 2**63
        torch.manual_seed(mixed)

    def on_before_backward(self, loss: Tensor) -> None:
        loss = averaged(loss)  # all processes stop if one does
        if not torch.isfinite(loss):
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            raise TaskError(
                f"the loss is {loss.item()} at step {self.global_step} (learning rate {rate:.3g}): training stopped, "
                "the checkpoints of earlier steps are kept; lower training.optimizer.lr or set "
                "trainer.gradient_clip_val=1"
            )

    def log_training(
        self, values: Mapping[str, Tensor], of_epoch: Mapping[str, Tensor] | None = None, batch_size: int = 1
    ) -> None:
        """Logs a step's values, averaged over the processes, beside the learning rate.

        Args:
            values: Logged at each step; of the same names in all processes.
            of_epoch: Likewise, but logged as the mean of the epoch.
            batch_size: What a batch weighs in that mean.
        """
        of_epoch = of_epoch or {}
        every = averaged(torch.stack([value.detach().float() for value in (*values.values(), *of_epoch.values())]))
        for name, value in zip((*values, *of_epoch), every, strict=True):
            late = name in of_epoch
            self.log(
                f"train/{name}",
                value,
                prog_bar=name == "loss",
                on_step=not late,
                on_epoch=late,
                batch_size=batch_size,
            )
        self.log("train/lr", self.trainer.optimizers[0].param_groups[-1]["lr"])

    def on_validation_epoch_start(self) -> None:
        share_buffers(self)  # the averaged ones, if weights are averaged

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return None if batch is None else self.measure(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        return None if batch is None else self.measure(batch, "test")

    def on_validation_epoch_end(self) -> None:
        self._log_figures("val")

    def on_test_epoch_end(self) -> None:
        self._log_figures("test")

    def _log_figures(self, stage: str) -> None:
        for name, value in self.figures(stage).items():
            self.log(f"{stage}/{name}", value, prog_bar=name == self.shown)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        metrics = {
            name: float(value) for name, value in self.trainer.callback_metrics.items() if name.startswith("val/")
        }
        checkpoint["onecore"] = {"task": self.task, "config": self.config, "facts": self.facts, "metrics": metrics}
        checkpoint["onecore"]["provenance"] = self.provenance

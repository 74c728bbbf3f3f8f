"""A tiny training that writes down what it saw."""

from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn


class Witness(pl.LightningModule):
    """Learns next to nothing, and notes each batch's labels and pixels, each step's rate and each validation."""

    def __init__(self, *, num_pixels: int, num_classes: int, asks_for_steps: bool = True) -> None:
        super().__init__()
        self.head = nn.Linear(num_pixels, num_classes)
        self.asks_for_steps = asks_for_steps
        self.seen: list[tuple] = []

    def training_step(self, batch, batch_idx):
        checksum = batch["image"].double().sum().item()
        rate = self.optimizers().param_groups[0]["lr"]
        self.seen.append((self.current_epoch, batch_idx, batch["label"].tolist(), checksum, round(rate, 9)))
        return nn.functional.cross_entropy(self.head(batch["image"].flatten(1)), batch["label"])

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", nn.functional.cross_entropy(self.head(batch["image"].flatten(1)), batch["label"]))

    def on_validation_epoch_end(self):
        if not self.trainer.sanity_checking:
            self.seen.append((self.current_epoch, "validated"))

    def on_train_epoch_end(self):
        self.seen.append((self.current_epoch, "ended"))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        # asking for the number of steps makes Lightning build the training loader before its counters are restored
        steps = self.trainer.estimated_stepping_batches if self.asks_for_steps else 100
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class SaveAt(pl.Callback):
    """Saves a checkpoint at one hook and global step."""

    def __init__(self, path: Path, hook: str, step: int) -> None:
        self.path, self.hook, self.step = path, hook, step

    def _save(self, hook, trainer):
        if hook == self.hook and trainer.global_step == self.step and not trainer.sanity_checking:
            trainer.save_checkpoint(self.path)

    def on_train_batch_end(self, trainer, *args):
        self._save("batch end", trainer)

    def on_validation_end(self, trainer, *args):
        self._save("validation end", trainer)

    def on_train_epoch_end(self, trainer, *args):
        self._save("epoch end", trainer)


def train(data, model, *, ckpt_path=None, callbacks=(), **trainer_args):
    """Trains on the CPU without a trace on the terminal or the disk."""
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        accelerator="cpu", enable_model_summary=False, callbacks=list(callbacks), **quiet, **trainer_args
    )
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
    return trainer

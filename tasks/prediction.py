"""What `predict` and `explain` do with a user's files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer

from tasks.errors import TaskError


def predict_files(trainer: Trainer, model: Any, datamodule: Any, files: Sequence[Path], folder: Path) -> Path:
    """Predicts files and writes what was predicted; one that cannot be read is named, and the others go on.

    Args:
        trainer: Runs the network.
        model: The task's module.
        datamodule: The data module of the training, which reads files like its own.
        files: The files.
        folder: Where to write.

    Returns:
        The main file that was written.

    Raises:
        TaskError: If files could not be read; the predictions of the others are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    batches: Any = trainer.predict(model, dataloaders=datamodule.predict_loader(files))
    failed = [failure for batch in batches for failure in batch["failed"]]
    read = [batch for batch in batches if len(batch["index"])]
    written = model.save_predictions(read, [str(file) for file in files], folder)
    if failed:
        reasons = "; ".join(reason for _, reason in failed)
        raise TaskError(
            f"{len(failed)} of {len(files)} files could not be read, the others are in {written}: {reasons}"
        )
    return written

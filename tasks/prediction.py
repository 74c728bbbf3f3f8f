"""What `predict` and `explain` do with a user's files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer

from tasks.errors import TaskError


class Unreadable(TaskError):
    """Some files could not be read; the predictions of the others are written.

    Args:
        reasons: Of each, in a line that names it.
        count: How many files there were.
        written: Where the predictions are.
    """

    def __init__(self, reasons: Sequence[str], count: int, written: Path) -> None:
        self.reasons = reasons
        super().__init__(
            f"{len(reasons)} of {count} files could not be read, the others are in {written}: {'; '.join(reasons)}"
        )


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
        Unreadable: If files could not be read; the predictions of the others are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    batches: Any = trainer.predict(model, dataloaders=datamodule.predict_loader(files))
    failed = [failure for batch in batches for failure in batch["failed"]]
    read = [batch for batch in batches if len(batch["index"])]
    written = model.save_predictions(read, [str(file) for file in files], folder)
    if failed:
        raise Unreadable([reason for _, reason in failed], len(files), written)
    return written

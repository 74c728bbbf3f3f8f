"""What a training writes while it runs: whole files, whatever ends it, and one line where they cannot be written."""

import csv
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.plugins import TorchCheckpointIO

from tasks.errors import TaskError
from tasks.run import write_whole


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place, and lets it take that place when it is whole.

    Lightning's own way (fsspec) writes it in the system's folder of temporary files; where that is another file system,
    its last step is a copy onto the checkpoint of before, which a kill or a full disk leaves torn.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Saves a checkpoint.

        Args:
            checkpoint: What is saved.
            path: The file; what is not on this machine (`s3://...`) is Lightning's business.
            storage_options: None, as Lightning asks.

        Raises:
            TaskError: If it cannot be written; an earlier one stays as it is.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with _told(Path(path), "; what was saved before is whole"):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_whole(Path(path), buffer.getbuffer())


class MetricsLogger(CSVLogger):
    """Writes `metrics.csv`, of which no line that was written is lost."""

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """What writes the file."""
        if self._experiment is None:
            os.makedirs(self.root_dir, exist_ok=True)
            self._experiment = _MetricsWriter(log_dir=self.log_dir)
        return self._experiment  # pyright: ignore[reportReturnType]


class _MetricsWriter(ExperimentWriter):
    def save(self) -> None:
        with _told(Path(self.metrics_file_path)):
            super().save()

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        path, text = Path(self.metrics_file_path), io.StringIO(newline="")
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        writer = csv.DictWriter(text, fieldnames)
        writer.writeheader()
        writer.writerows(rows)
        write_whole(path, text.getvalue())


@contextmanager
def _told(path: Path, more: str = "") -> Iterator[None]:
    """Names the file that could not be written."""
    try:
        yield
    except OSError as error:
        raise TaskError(f"{path} cannot be written: {error.strerror or error}{more}") from error

"""The runs that can be tried."""

import json
from pathlib import Path
from typing import NamedTuple

import yaml


class Run(NamedTuple):
    """A run with a best checkpoint.

    Attributes:
        task: Name of the task.
        checkpoint: Its best.
    """

    task: str
    checkpoint: Path

    @property
    def name(self) -> str:
        """Its folder's."""
        return self.checkpoint.parents[1].name

    def label(self) -> str:
        """The name, and what its best checkpoint reached, if that can be read."""
        folder = self.checkpoint.parents[1]
        try:
            monitor = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["training"]["monitor"]
            reached = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))[monitor]
            return f"{self.name} · {monitor.removeprefix('val/')} {reached:.3g}"
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
            return self.name


def find_runs(runs: Path, task: str) -> list[Run]:
    """Lists `runs/TASK/*/checkpoints/best.ckpt`, the newest first."""
    return [Run(task, each) for each in sorted(runs.glob(f"{task}/*/checkpoints/best.ckpt"), key=_age)]


def _age(checkpoint: Path) -> int:
    try:
        return -checkpoint.stat().st_mtime_ns
    except OSError:  # taken away since it was listed
        return 0

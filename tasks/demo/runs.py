"""The runs that can be tried."""

import json
from pathlib import Path
from typing import NamedTuple

import yaml


class Run(NamedTuple):
    """A run with a best checkpoint.

    Attributes:
        task: Name of the task.
        name: Its folder's.
        label: The name and how good it was.
        checkpoint: Its best.
    """

    task: str
    name: str
    label: str
    checkpoint: Path


def find_runs(runs: Path, task: str) -> list[Run]:
    """Lists `runs/TASK/*/checkpoints/best.ckpt`, the newest first."""
    checkpoints = sorted(runs.glob(f"{task}/*/checkpoints/best.ckpt"), key=_age)
    folders = [each.parents[1] for each in checkpoints]
    return [Run(task, folder.name, _label(folder), each) for folder, each in zip(folders, checkpoints, strict=True)]


def _age(checkpoint: Path) -> int:
    try:
        return -checkpoint.stat().st_mtime_ns
    except OSError:  # taken away since it was listed
        return 0


def _label(folder: Path) -> str:
    """The folder's name, and what its best checkpoint reached, if that can be read."""
    try:
        monitor = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["training"]["monitor"]
        reached = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))[monitor]
        return f"{folder.name} · {monitor.removeprefix('val/')} {reached:.3g}"
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return folder.name

"""The runs that can be tried."""

import json
from pathlib import Path
from typing import NamedTuple

import yaml

from tasks.errors import TaskError


class Run(NamedTuple):
    """A run with a best checkpoint.

    Attributes:
        task: Name of the task.
        label: Its folder's name and how good it was.
        checkpoint: Its best.
    """

    task: str
    label: str
    checkpoint: Path


def find_runs(runs: Path, tasks: tuple[str, ...]) -> dict[str, list[Run]]:
    """Lists `runs/TASK/*/checkpoints/best.ckpt` of each task, the newest first.

    Raises:
        TaskError: If there is none at all.
    """
    found = {}
    for task in tasks:
        checkpoints = sorted(runs.glob(f"{task}/*/checkpoints/best.ckpt"), key=_age)
        found[task] = [Run(task, _label(each.parents[1]), each) for each in checkpoints]
    if not any(found.values()):
        raise TaskError(
            f"--runs={runs}: holds no run ({runs}/TASK/*/checkpoints/best.ckpt); train one: python -m tasks.vit fit"
        )
    return found


def _age(checkpoint: Path) -> int:
    return -checkpoint.stat().st_mtime_ns


def _label(folder: Path) -> str:
    """The folder's name, and what its best checkpoint reached, if that can be read."""
    try:
        monitor = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["training"]["monitor"]
        reached = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))[monitor]
        return f"{folder.name} · {monitor.removeprefix('val/')} {reached:.3g}"
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return folder.name

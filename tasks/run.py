"""A run's folder and the files in it: never an earlier one overwritten, never a half-written one left."""

import os
from datetime import datetime
from pathlib import Path


def now() -> str:
    """The local time as it stands in the names of folders and files."""
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def make_run_folder(runs: Path, task: str) -> Path:
    """Makes `runs/task/time`, a folder that no other run has, even where two start in the same second."""
    name = now()
    (runs / task).mkdir(parents=True, exist_ok=True)
    for suffix in ["", *(f"-{number}" for number in range(2, 1000))]:
        folder = runs / task / (name + suffix)
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{runs / task / name} to {name}-999 exist already")


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all: beside it first, then renamed; text as UTF-8."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    beside.replace(path)


def keep_earlier(*paths: Path) -> None:
    """Renames files that are about to be written anew, so that earlier results stay: `a.csv` to `a_<time>.csv`."""
    for path in paths:
        if path.exists():
            stamp = datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d_%H-%M-%S")
            kept = path.with_name(f"{path.stem}_{stamp}{path.suffix}")
            number = 2
            while kept.exists():
                kept = path.with_name(f"{path.stem}_{stamp}-{number}{path.suffix}")
                number += 1
            path.rename(kept)

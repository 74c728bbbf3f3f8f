"""The data that this machine has: carried by packages, and in folders that look as a data set's do."""

import importlib.util
import os
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import datamodules
from datamodules import DataModule
from tasks.catalogue import TASKS, import_object
from tasks.overview import experiments

_MOST_FOLDERS = 200
"""So many folders of the data's own are looked into."""


def data_here() -> str:
    """Of each task the data that need no folder, and those found in `$ONECORE_DATA`, or else `data`."""
    root = Path(os.environ.get("ONECORE_DATA") or "data").expanduser()
    lines = [f"\ndata here (folders: {root}, which $ONECORE_DATA names):" if root.is_dir() else _no_folder(root)]
    for task in TASKS:
        known = _data_sets(task)
        lines += [_carried(task, each) for each in known if each.package is not None]
        lines += [
            f"  {each.__name__}: in {folder}: {_fit(task, each)} --data.root={folder}"
            for folder in _folders(root)
            for each in known
            if each.is_at(folder)
        ]
    return "\n".join(lines) + "\n"


def _no_folder(root: Path) -> str:
    return f"\ndata here (there is no folder {root}: $ONECORE_DATA, or --data.root, says where yours are):"


def _data_sets(task: str) -> list[type[DataModule]]:
    """The data sets that a task can take: those of the same kind as its default experiment's."""
    kind = _data_of(TASKS[task].config).__base__
    every = [getattr(datamodules, name) for name in datamodules.__all__]
    return [each for each in every if issubclass(each, kind) and each is not kind]


@cache
def _data_of(config: Path) -> Any:
    data = (yaml.safe_load(config.read_text(encoding="utf-8")) or {}).get("data")
    return None if data is None else import_object(data["class_path"])


def _carried(task: str, data: type[DataModule]) -> str:
    """A data set that comes with a package, or is made with one."""
    package = str(data.package)
    if importlib.util.find_spec(package) is None:
        return f"  {data.__name__}: not here; pip install {package.replace('_', '-')} brings it"
    return f"  {data.__name__}: with the package {package}: {_fit(task, data)}"


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return [root, *sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")[:_MOST_FOLDERS]]


def _fit(task: str, data: type[DataModule]) -> str:
    """The command that trains on a data set: by its own experiment, or else by the default one's."""
    own = [each for each in experiments(task) if _data_of(each) is data]
    if not own:
        return f"python -m tasks.{task} fit --data={data.__name__}"
    if own[0] == TASKS[task].config:
        return f"python -m tasks.{task} fit"
    return f"python -m tasks.{task} fit --config {own[0].relative_to(own[0].parents[2])}"

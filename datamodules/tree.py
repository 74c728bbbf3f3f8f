"""Finds the labelled pictures of a folder tree, and decodes them at once or checks that they can be."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from datamodules.prediction import find_pictures
from datamodules.splits import stratified_split

_T = TypeVar("_T")
_NUM_NAMED = 3  # bad files that an error names


class Labelled(NamedTuple):
    """Files, and the class of each."""

    paths: list[Path]
    labels: Tensor

    def select(self, indices: Tensor) -> "Labelled":
        """Gives some of the files."""
        return Labelled([self.paths[index] for index in indices.tolist()], self.labels[indices])


class Tree(NamedTuple):
    """The classes, and the files of each split that is there."""

    class_names: list[str]
    splits: dict[str, Labelled]


def scan(root: Path, *, val_share: float, test_share: float) -> Tree:
    """Finds classes and files of `root/{train,val,test}/<class>/`, or of `root/<class>/`.

    Args:
        root: The folder.
        val_share: Share of each class that becomes validation if there is no `val`.
        test_share: Share of each class that becomes the test if there is no `train`.

    Raises:
        FileNotFoundError: If `root` is missing.
        ValueError: If there are no classes, a class is empty or unknown in training, or a split would be empty.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; give one that holds train/<class>/ with --data.root")
    if not (root / "train").is_dir():
        for name in ("val", "test"):
            if (root / name).is_dir():
                raise ValueError(f"{root}: has a folder {name} but no folder train")
        class_names = _class_names(root)
        everything = _labelled(root, class_names)
        train, val, test = stratified_split(everything.labels, [val_share, test_share])
        parts = {"train": train, "val": val, "test": test}
        tree = Tree(class_names, {name: everything.select(part) for name, part in parts.items()})
    else:
        class_names = _class_names(root / "train")
        splits = {"train": _labelled(root / "train", class_names)}
        for name in ("val", "test"):
            if (root / name).is_dir():
                splits[name] = _labelled(root / name, class_names)
        if "val" not in splits:
            train, val = stratified_split(splits["train"].labels, [val_share])
            splits |= {"train": splits["train"].select(train), "val": splits["train"].select(val)}
        tree = Tree(class_names, splits)
    for name, labelled in tree.splits.items():
        if not labelled.paths:
            raise ValueError(f"{root}: the {name} part has no picture: add some, or raise --data.{name}_share")
    return tree


def _class_names(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise ValueError(f"{folder}: has no folder, but needs one for each class, with its pictures inside")
    return names


def _labelled(folder: Path, class_names: Sequence[str]) -> Labelled:
    paths, labels = [], []
    for name in _class_names(folder):
        if name not in class_names:
            raise ValueError(f"{folder / name}: class {name!r} is unknown in training; it has {', '.join(class_names)}")
        files = find_pictures(folder / name)
        if not files:
            raise ValueError(f"{folder / name}: class {name!r} has no picture; add some or remove the folder")
        paths += files
        labels += [class_names.index(name)] * len(files)
    return Labelled(paths, torch.tensor(labels))


def read_each(items: Sequence[_T], read: Callable[[_T], object]) -> tuple[list[int], list[str]]:
    """Calls `read` on each of `items`, files or what stands for them.

    Returns:
        The indices of those for which it raised no error, and the messages of the errors.
    """
    good, messages = [], []
    for index, item in enumerate(items):
        try:
            read(item)
        except (ValueError, FileNotFoundError) as error:
            messages.append(str(error))
        else:
            good.append(index)
    return good, messages


def describe(messages: Sequence[str], *, total: int) -> str:
    """Puts the errors of bad files into one line that names the first few."""
    more = f"; and {len(messages) - _NUM_NAMED} more" if len(messages) > _NUM_NAMED else ""
    return f"{len(messages)} of {total} pictures cannot be read: {'; '.join(messages[:_NUM_NAMED])}{more}"

"""Files without labels: which of them can be read, and batches that say which could not."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from datamodules.pictures import Normalize
from datamodules.reading import PICTURE_SUFFIXES


def find_inputs(
    input: Path,  # noqa: A002 - the command's own word
    suffixes: Collection[str] = PICTURE_SUFFIXES,
    *,
    kind: str = "picture",
) -> list[Path]:
    """Lists the files to predict.

    Args:
        input: A file, or a folder that is searched with all below it.
        suffixes: What the names of the files in a folder end with, in lower case.
        kind: What such a file is called.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If the folder holds no such file.
    """
    path = Path(input).expanduser()
    if path.is_dir():
        if files := find_files(path, suffixes):
            return files
        raise ValueError(f"{path}: holds no {kind} ({' '.join(sorted(suffixes))})")
    if path.is_file():
        return [path]
    raise FileNotFoundError(f"{path}: no such file or folder")


def find_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Lists the files of some suffixes in a folder and below, sorted; hidden files and folders are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def find_pictures(folder: Path) -> list[Path]:
    """Lists the pictures in a folder and below."""
    return find_files(folder, PICTURE_SUFFIXES)


class UnlabelledFiles(Dataset):
    """Pictures to predict: a sample is its index with the picture, or with the reason why there is none.

    Args:
        paths: The files.
        read: Reads and prepares one.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[Path], Any]) -> None:
        self.paths = paths
        self.read = read

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        try:
            return index, self.read(self.paths[index])
        except (ValueError, FileNotFoundError) as error:
            return index, str(error)


class CollateFiles:
    """Makes `{"image", "shown", "index", "failed"}`: the pictures that could be read, and why the others could not.

    Args:
        normalize: Normalises a batch.
        shape: Shape of every picture.
    """

    def __init__(self, normalize: Normalize, shape: tuple[int, int, int]) -> None:
        self.normalize = normalize
        self.empty = torch.empty(0, *shape, dtype=torch.uint8)

    def __call__(self, samples: list[tuple[int, Any]]) -> dict[str, Any]:
        """Stacks and normalises; if nothing could be read, `image` has a batch of 0."""
        read = [(index, *found) for index, found in samples if not isinstance(found, str)]
        images = torch.stack([picture for _, picture, _ in read]) if read else self.empty
        return {
            "image": self.normalize(images),
            "shown": torch.tensor([part for *_, part in read]).reshape(-1, 4),
            "index": torch.tensor([index for index, *_ in read], dtype=torch.long),
            "failed": [(index, reason) for index, reason in samples if isinstance(reason, str)],
        }

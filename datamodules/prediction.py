"""Files without labels: which of them are pictures, and batches that say which could not be read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.pictures import Normalize, fit
from datamodules.reading import PICTURE_SUFFIXES, read_image


def find_pictures(folder: Path) -> list[Path]:
    """Lists the pictures in a folder and below, sorted; hidden files and folders are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in PICTURE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


class UnlabelledFiles(Dataset):
    """Pictures to predict: a sample is its index with the picture, or with the reason why there is none.

    Args:
        paths: The files.
        num_channels: 1 = grey, 3 = colour.
        image_size: Height and width of a sample.
    """

    def __init__(self, paths: Sequence[Path], *, num_channels: int, image_size: tuple[int, int]) -> None:
        self.paths = paths
        self.num_channels = num_channels
        self.image_size = image_size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, Tensor | str]:
        try:
            return index, fit(read_image(self.paths[index], self.num_channels), self.image_size)
        except (ValueError, FileNotFoundError) as error:
            return index, str(error)


class CollateFiles:
    """Makes `{"image", "index", "failed"}`: the pictures that could be read, and `(index, reason)` of the others."""

    def __init__(self, files: UnlabelledFiles, normalize: Normalize) -> None:
        self.empty = torch.empty(0, files.num_channels, *files.image_size, dtype=torch.uint8)
        self.normalize = normalize

    def __call__(self, samples: list[tuple[int, Tensor | str]]) -> dict[str, Any]:
        """Stacks and normalises; if nothing could be read, `image` has a batch of 0."""
        read = [(index, picture) for index, picture in samples if isinstance(picture, Tensor)]
        images = torch.stack([picture for _, picture in read]) if read else self.empty
        return {
            "image": self.normalize(images),
            "index": torch.tensor([index for index, _ in read], dtype=torch.long),
            "failed": [(index, reason) for index, reason in samples if isinstance(reason, str)],
        }

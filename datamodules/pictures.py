"""Labelled pictures, in memory or in files, and how they become normalised batches."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional

from datamodules.reading import read_image
from datamodules.seeded import seeded


def fit(picture: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Scales a picture to cover `image_size`, keeping its proportions, and cuts out the middle.

    Args:
        picture: uint8 (channels, height, width).
        image_size: Height and width.
    """
    size = (picture.shape[-2], picture.shape[-1])
    if size == image_size:
        return picture
    scaled, (top, left) = _covering(size, image_size)
    cut = functional.resize(picture, list(scaled), antialias=True)
    return cut[..., top : top + image_size[0], left : left + image_size[1]]


def shown_part(size: tuple[int, int], image_size: tuple[int, int]) -> tuple[float, float, float, float]:
    """What `fit` leaves of a picture: corners `x1, y1, x2, y2` in the picture's pixels.

    Args:
        size: Height and width of the picture.
        image_size: Height and width to which it is fitted.

    >>> shown_part((60, 100), (30, 30))
    (20.0, 0.0, 80.0, 60.0)
    """
    (high, wide), (top, left) = _covering(size, image_size)
    y, x = size[0] / high, size[1] / wide
    return (left * x, top * y, (left + image_size[1]) * x, (top + image_size[0]) * y)


def _covering(size: tuple[int, int], image_size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width of a picture that is scaled to cover `image_size`, and top and left of its middle."""
    scale = max(wanted / side for wanted, side in zip(image_size, size, strict=True))
    high, wide = (max(wanted, round(side * scale)) for wanted, side in zip(image_size, size, strict=True))
    return (high, wide), (round((high - image_size[0]) / 2), round((wide - image_size[1]) / 2))


def read_fitted(path: Path, *, num_channels: int, image_size: tuple[int, int]) -> Tensor:
    """Reads a picture and fits it to `image_size`."""
    return fit(read_image(path, num_channels), image_size)


def read_with_part(
    path: Path, *, num_channels: int, image_size: tuple[int, int]
) -> tuple[Tensor, tuple[float, float, float, float]]:
    """Reads a picture, fits it to `image_size`, and tells what of it is shown (`shown_part`)."""
    picture = read_image(path, num_channels)
    return fit(picture, image_size), shown_part((picture.shape[1], picture.shape[2]), image_size)


class Normalize:
    """Makes uint8 pictures float: (x / 255 - mean) / std, for each channel.

    Args:
        mean: Mean of each channel, of values in [0, 1].
        std: Standard deviation of each channel.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean = np.array(mean, np.float32).reshape(-1, 1, 1) * 255
        self.std = np.array(std, np.float32).reshape(-1, 1, 1) * 255

    def __call__(self, pictures: Tensor) -> Tensor:
        """Normalises pictures (..., channels, height, width)."""
        # NumPy, since torch would split this little work among threads, whose waiting costs more on a busy machine.
        values = pictures.numpy() - self.mean
        values /= self.std
        return torch.from_numpy(values)


class Pictures(ABC):
    """Pictures with the class of each, `labels` (pictures,)."""

    labels: Tensor

    @abstractmethod
    def read(self, index: int) -> Tensor:
        """Gives a picture as uint8 (channels, height, width); it is not to be changed in place."""

    def __len__(self) -> int:
        return len(self.labels)


class StoredPictures(Pictures):
    """Pictures in memory.

    Args:
        images: uint8 (pictures, channels, height, width).
        labels: int64 (pictures,).
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels

    def read(self, index: int) -> Tensor:
        """Gives a view of the stored picture."""
        return self.images[index]

    def select(self, indices: Tensor) -> "StoredPictures":
        """Gives some of the pictures."""
        return StoredPictures(self.images[indices], self.labels[indices])


class PictureFiles(Pictures):
    """Pictures that are read when they are needed.

    Args:
        paths: The files.
        labels: int64 (pictures,).
        num_channels: 1 = grey, 3 = colour.
        image_size: Height and width to which they are brought.
    """

    def __init__(
        self, paths: Sequence[Path], labels: Tensor, *, num_channels: int, image_size: tuple[int, int]
    ) -> None:
        self.paths = paths
        self.labels = labels
        self.num_channels = num_channels
        self.image_size = image_size

    def read(self, index: int) -> Tensor:
        """Reads the file."""
        return read_fitted(self.paths[index], num_channels=self.num_channels, image_size=self.image_size)


def channel_statistics(pictures: Pictures, most: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, of values in [0, 1].

    Args:
        pictures: The pictures; each pixel counts the same.
        most: How many pictures to look at, at most, evenly spaced.
    """
    count, total, squares = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for index in torch.linspace(0, len(pictures) - 1, min(most, len(pictures))).long().tolist():
        values = pictures.read(index).flatten(1)
        count += values.shape[1]
        # integers: exact in any order
        total = total + values.sum(1)
        squares = squares + values.long().square_().sum(1)
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    return (mean / 255).tolist(), (std / 255).tolist()


class Samples(Dataset):
    """Pictures as samples: fitted, and augmented if they are asked for with a seed.

    Args:
        pictures: The pictures.
        image_size: Height and width of a sample.
        normalize: Normalises; here only if there is something to do after it, else for the whole batch at once.
        augment: Random changes of a uint8 picture.
        augment_normalized: Random changes after normalisation.
    """

    def __init__(
        self,
        pictures: Pictures,
        *,
        image_size: tuple[int, int],
        normalize: Normalize,
        augment: Sequence[Callable[[Tensor], Tensor]] = (),
        augment_normalized: Sequence[Callable[[Tensor], Tensor]] = (),
    ) -> None:
        self.pictures = pictures
        self.image_size = image_size
        self.normalize = normalize
        self.augment = augment
        self.augment_normalized = augment_normalized

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[Tensor, int]:
        # Lightning's overfit_batches asks for plain indices: then the index is the seed.
        index, seed = key if isinstance(key, tuple) else (key, key)
        picture = fit(self.pictures.read(index), self.image_size)
        if self.augment or self.augment_normalized:
            with seeded(seed):
                picture = self._change(picture)
        return picture, int(self.pictures.labels[index])

    def _change(self, picture: Tensor) -> Tensor:
        for change in self.augment:
            picture = change(picture)
        if picture.dtype != torch.uint8:
            raise ValueError(f"augment must keep pictures uint8 but made {picture.dtype}; use augment_normalized")
        if self.augment_normalized:
            picture = self.normalize(picture)
            for change in self.augment_normalized:
                picture = change(picture)
        if picture.shape[-2:] != self.image_size:
            raise ValueError(f"augment made {tuple(picture.shape[-2:])} of pictures of image_size={self.image_size}")
        return picture


class Collate:
    """Makes `{"image": (batch, channels, height, width), "label": (batch,)}` of samples; uint8 is normalised here."""

    def __init__(self, normalize: Normalize) -> None:
        self.normalize = normalize

    def __call__(self, samples: list[tuple[Tensor, int]]) -> dict[str, Any]:
        """Stacks, and normalises the whole batch at once."""
        images = torch.stack([image for image, _ in samples])
        return {
            "image": images if images.is_floating_point() else self.normalize(images),
            "label": torch.tensor([label for _, label in samples]),
        }

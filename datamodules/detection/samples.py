"""Pictures with boxes: how they are sized, augmented together, and padded to batches."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.ops import box_convert
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from datamodules.detection.annotations import Annotations
from datamodules.pictures import Normalize
from datamodules.reading import read_image, read_size
from datamodules.seeded import seeded
from datamodules.tree import describe, read_each

NUM_CHANNELS = 3


class Sizing:
    """Scales a picture until its shorter side is `image_size`, or less where its longer side would exceed `max_size`.

    Args:
        image_size: The shorter side; None = as it is in the file.
        max_size: The most that the longer side may be; None = any.

    >>> Sizing(image_size=600, max_size=1000).of(480, 640), Sizing(image_size=600, max_size=1000).of(500, 1000)
    ((600, 800), (500, 1000))
    """

    def __init__(self, *, image_size: int | None, max_size: int | None) -> None:
        self.image_size = image_size
        self.max_size = max_size

    def of(self, height: int, width: int) -> tuple[int, int]:
        """Gives the new height and width."""
        scale = 1.0 if self.image_size is None else self.image_size / min(height, width)
        if self.max_size is not None:
            scale = min(scale, self.max_size / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    def read(self, path: Path) -> tuple[Tensor, tuple[int, int]]:
        """Reads a picture as uint8 (3, height, width), scaled, and tells its height and width in the file."""
        picture = read_image(path, NUM_CHANNELS)
        height, width = picture.shape[-2:]
        size = self.of(height, width)
        if size != (height, width):
            picture = functional.resize(picture, list(size), antialias=True)
        return picture, (height, width)


class AnnotatedPictures:
    """Pictures with their objects, in memory if they take little room there, else read when they are needed.

    Args:
        annotations: The objects.
        sizing: Scales each picture.
        cache_bytes: The most room that the scaled pictures may take to be kept in memory.

    Raises:
        ValueError: If they are to be kept and some cannot be read.
    """

    def __init__(self, annotations: Annotations, *, sizing: Sizing, cache_bytes: int) -> None:
        self.annotations = annotations
        self.sizing = sizing
        self.paths = [picture.path for picture in annotations.pictures]
        self._kept: list[tuple[Tensor, tuple[int, int]]] = []
        if self._bytes(cache_bytes) <= cache_bytes:
            _, messages = read_each(range(len(self)), lambda index: self._kept.append(self._open(index)))
            if messages:
                raise ValueError(f"{describe(messages, total=len(self))}: mend them, or take them out")

    def __len__(self) -> int:
        return len(self.paths)

    def _bytes(self, enough: int) -> int:
        """The room that the scaled pictures take, by their headers; the count ends beyond `enough`."""
        total = 0
        for path in self.paths:
            try:
                height, width = self.sizing.of(*read_size(path))
            except (ValueError, FileNotFoundError):
                continue  # named when it is decoded
            total += NUM_CHANNELS * height * width
            if total > enough:
                break
        return total

    def read(self, index: int) -> tuple[Tensor, tuple[int, int]]:
        """Gives a scaled picture, not to be changed in place, and its height and width in the file."""
        return self._kept[index] if self._kept else self._open(index)

    def _open(self, index: int) -> tuple[Tensor, tuple[int, int]]:
        picture, size = self.sizing.read(self.paths[index])
        if message := wrong_size(self.annotations, index, size):
            raise ValueError(message)
        return picture, size


def wrong_size(annotations: Annotations, index: int, size: tuple[int, int]) -> str | None:
    """Says that a picture is not of the size that its annotation says: then its boxes lie elsewhere."""
    picture = annotations.pictures[index]
    if picture.size in (None, size):
        return None
    said, found = ("x".join(map(str, pair)) for pair in (picture.size, size))
    return f"{picture.path}: is {found} (height x width), but {picture.file} says {said}, so its boxes lie elsewhere"


class DetectionSamples(Dataset):
    """Pictures and boxes as samples; augmented if they are asked for with a seed.

    Boxes without width or height are left out, and so are crowds; what reaches out of the picture is cut off. So it is
    after augmentation, where boxes of less than a pixel go as well.

    Args:
        pictures: The pictures.
        augment: Random changes of `{"image", "boxes", "labels"}`, uint8 and tv_tensors.
        truth: Whether a sample has its picture's `truth`, all annotations as they are in the file.
    """

    def __init__(self, pictures: AnnotatedPictures, *, augment: Sequence[nn.Module] = (), truth: bool = False) -> None:
        self.pictures = pictures
        self.augment = augment
        self.truth = truth
        self._tidy = v2.Compose([v2.ClampBoundingBoxes(), v2.SanitizeBoundingBoxes()])

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        # Lightning's overfit_batches asks for plain indices: then the index is the seed.
        index, seed = key if isinstance(key, tuple) else (key, key)
        picture, original_size = self.pictures.read(index)
        annotations = self.pictures.annotations
        truth = annotations.of(index)
        sample = self._tidy(_scaled(picture, original_size, truth))
        if self.augment:
            with seeded(seed):
                for change in self.augment:
                    sample = change(sample)
            sample = self._tidy(sample)
        image = sample["image"]
        if image.dtype != torch.uint8:
            raise ValueError(f"augment must keep pictures uint8 but made {image.dtype}")
        height, width = image.shape[-2:]
        boxes = box_convert(sample["boxes"].as_subclass(Tensor), "xyxy", "cxcywh")
        return {
            "image": image.as_subclass(Tensor),
            "boxes": boxes / torch.tensor([width, height, width, height]),
            "labels": sample["labels"],
            "image_id": annotations.pictures[index].image_id,
            "file_name": str(annotations.pictures[index].path),
            "original_size": original_size,
            **({"truth": truth} if self.truth else {}),
        }


def _scaled(picture: Tensor, original_size: tuple[int, int], truth: dict[str, Tensor]) -> dict[str, Any]:
    """The objects to be found in a picture that was scaled; boxes of no extent would upset some augmentations."""
    size = picture.shape[-2:]
    usable = ~truth["crowd"] & (truth["boxes"][:, 2:] > truth["boxes"][:, :2]).all(1)
    vertical, horizontal = (new / old for new, old in zip(size, original_size, strict=True))
    boxes = truth["boxes"][usable] * torch.tensor([horizontal, vertical, horizontal, vertical])
    return {
        "image": tv_tensors.Image(picture),
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=tuple(size)),  # pyright: ignore[reportCallIssue, reportArgumentType]
        "labels": truth["labels"][usable],
    }


def pad(images: Sequence[Tensor], normalize: Normalize) -> dict[str, Tensor]:
    """Normalises uint8 pictures and pads them at the right and the bottom.

    Args:
        images: uint8 (3, height, width), of any size each.
        normalize: Normalises.

    Returns:
        `image` (batch, 3, height, width), 0 in the padding, and `padding_mask` (batch, height, width), True there.
    """
    height = max((image.shape[-2] for image in images), default=1)
    width = max((image.shape[-1] for image in images), default=1)
    batch = torch.zeros(len(images), NUM_CHANNELS, height, width)
    padding_mask = torch.ones(len(images), height, width, dtype=torch.bool)
    for image, to, mask in zip(images, batch, padding_mask, strict=True):
        rows, columns = image.shape[-2:]
        to[:, :rows, :columns] = normalize(image)
        mask[:rows, :columns] = False
    return {"image": batch, "padding_mask": padding_mask}


class CollateSamples:
    """Makes a batch of samples: pictures are padded to the largest, what differs in number stays a list."""

    def __init__(self, normalize: Normalize) -> None:
        self.normalize = normalize

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Pads and normalises."""
        lists = {name: [sample[name] for sample in samples] for name in samples[0]}
        original_size = torch.tensor(lists.pop("original_size"))
        return {**pad(lists.pop("image"), self.normalize), **lists, "original_size": original_size}


class CollateUnlabelled:
    """Makes `{"image", "padding_mask", "original_size", "index", "failed"}` of pictures to predict."""

    def __init__(self, normalize: Normalize) -> None:
        self.normalize = normalize

    def __call__(self, samples: list[tuple[int, Any]]) -> dict[str, Any]:
        """Pads and normalises; if nothing could be read, `image` has a batch of 0."""
        read = [(index, *found) for index, found in samples if not isinstance(found, str)]
        return {
            **pad([picture for _, picture, _ in read], self.normalize),
            "original_size": torch.tensor([size for *_, size in read], dtype=torch.long).reshape(-1, 2),
            "index": torch.tensor([index for index, *_ in read], dtype=torch.long),
            "failed": [(index, reason) for index, reason in samples if isinstance(reason, str)],
        }


def check_augment(augment: Sequence[nn.Module]) -> None:
    """Refuses a RandomIoUCrop that would never end on a picture without objects.

    Raises:
        ValueError: If none of its `sampler_options` lets the picture be.
    """
    for change in _with_parts(augment):
        if isinstance(change, v2.RandomIoUCrop) and max(change.options) < 1:
            raise ValueError(
                f"augment: RandomIoUCrop with sampler_options={change.options} never ends on a picture without"
                " objects; let one option be 1.0, which leaves a picture as it is"
            )


def _with_parts(changes: Sequence[Any]) -> Iterator[Any]:
    for change in changes:
        yield change
        yield from _with_parts(getattr(change, "transforms", None) or ())

"""What the data modules of labelled pictures share."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from datamodules.labelled import LabelledPictures, Split
from datamodules.pictures import Collate, Pictures, Samples, read_with_part
from datamodules.prediction import CollateFiles, UnlabelledFiles


class ImageDataModule(LabelledPictures):
    """Labelled pictures in batches `{"image": (batch, channels, height, width), "label": (batch,)}`.

    Its facts: `class_names`, `num_classes`, `image_size` (height, width), `num_channels`, and `mean` and `std` of each
    channel. A picture of another size is scaled to cover `image_size`, and its middle is cut out.

    Args:
        root: Folder of the data; `$ONECORE_DATA` if not given, or else `data`.
        batch_size: Pictures in a batch, per process; in training the last incomplete batch is dropped.
        num_workers: Processes that prepare batches, beside the one that trains.
        image_size: Height and width, or one number for both; the data's own if not given.
        augment: Random changes of a training picture while it is uint8, as of `torchvision.transforms.v2`.
        augment_normalized: Random changes after normalisation, when 0 is the mean colour: for RandomErasing.
        mean: Mean of each channel, of values in [0, 1]; the data's own if not given.
        std: Standard deviation of each channel; the data's own if not given.
        seed: Decides order and augmentation of the training; `$PL_GLOBAL_SEED` if not given, or else 0.

    Raises:
        ValueError: If a size or a deviation is not positive, or only one of `mean` and `std` is given.
    """

    fact_names = ("class_names", "num_classes", "image_size", "num_channels", "mean", "std")

    def __init__(
        self,
        *,
        root: str | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        image_size: tuple[int, int] | int | None = None,
        augment: list[nn.Module] | None = None,
        augment_normalized: list[nn.Module] | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(root=root, batch_size=batch_size, num_workers=num_workers, mean=mean, std=std, seed=seed)
        self._image_size = None if image_size is None else _pair(image_size)
        self.augment = augment or []
        self.augment_normalized = augment_normalized or []
        self._pictures: dict[str, Pictures] = {}

    @abstractmethod
    def _read(self, split: Split) -> Pictures:
        """Reads the pictures of a split."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of a picture."""
        return self.facts["image_size"]

    def restore_facts(self, facts: Mapping[str, Any]) -> None:
        """Sets the facts of a trained model, so that no data need be there; an `image_size` that was given stays.

        Args:
            facts: `facts` of the data module that the model was trained with.

        Raises:
            ValueError: If one is missing.
        """
        super().restore_facts(facts)
        self.facts["image_size"] = self._image_size or _pair(facts["image_size"])

    def pictures(self, split: Split) -> Pictures:
        """Gives the pictures of a split; they are read once."""
        if split not in self._pictures:
            self._pictures[split] = self._read(split)
        return self._pictures[split]

    def train_dataloader(self) -> DataLoader:
        """Batches of augmented training pictures, in the order of the epoch."""
        samples = self._samples("train", augment=self.augment, augment_normalized=self.augment_normalized)
        return self._train_loader(samples, Collate(samples.normalize))

    def val_dataloader(self) -> DataLoader:
        """Batches of all validation pictures, in a fixed order."""
        samples = self._samples("val")
        return self._evaluation_loader(samples, Collate(samples.normalize))

    def test_dataloader(self) -> DataLoader:
        """Batches of all test pictures, in a fixed order."""
        samples = self._samples("test")
        return self._evaluation_loader(samples, Collate(samples.normalize))

    def _samples(
        self, split: Split, augment: Sequence[nn.Module] = (), augment_normalized: Sequence[nn.Module] = ()
    ) -> Samples:
        return Samples(
            self.pictures(split),
            image_size=self.image_size,
            normalize=self.normalize,
            augment=augment,
            augment_normalized=augment_normalized,
        )

    def predict_loader(self, files: Sequence[Path], *, image_size: tuple[int, int] | None = None) -> DataLoader:
        """Batches `{"image", "shown", "index", "failed"}`, prepared exactly as for evaluation.

        `shown` (batch, 4) is the part of the file's picture that `image` has: x1, y1, x2, y2 in pixels of the file,
        turned as its EXIF data say. `index` (batch,) says which of `files` each picture is; `failed` holds `(index,
        reason)` of each that could not be read, which is missing from the others.

        Args:
            files: The pictures.
            image_size: Height and width, if other than the data's.
        """
        size = self.image_size if image_size is None else _pair(image_size)
        samples = UnlabelledFiles(files, partial(read_with_part, num_channels=self.num_channels, image_size=size))
        collate = CollateFiles(self.normalize, (self.num_channels, *size))
        return DataLoader(
            samples, batch_size=self.batch_size, num_workers=self.num_workers, collate_fn=collate, shuffle=False
        )

    def _image_facts(
        self,
        class_names: Sequence[str],
        *,
        image_size: tuple[int, int],
        num_channels: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> dict[str, Any]:
        """The facts, where what the user gave comes before what the data say."""
        if self._normalization is not None:
            mean, std = self._normalization
            if not len(mean) == len(std) == num_channels:
                raise ValueError(f"mean={mean} and std={std} must have {num_channels} values, one for each channel")
        return {
            "class_names": list(class_names),
            "num_classes": len(class_names),
            "image_size": self._image_size or image_size,
            "num_channels": num_channels,
            "mean": list(mean),
            "std": list(std),
        }


def _pair(image_size: Sequence[int] | int) -> tuple[int, int]:
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if height < 1 or width < 1:
        raise ValueError(f"image_size={image_size} must be positive")
    return height, width

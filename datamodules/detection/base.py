"""What the data modules of object detection share."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import nn
from torch.utils.data import DataLoader

from datamodules.detection.annotations import Annotations, Defect, Finding, Reading
from datamodules.detection.check import Check, check_part
from datamodules.detection.samples import (
    NUM_CHANNELS,
    AnnotatedPictures,
    CollateSamples,
    CollateUnlabelled,
    DetectionSamples,
    Sizing,
    check_augment,
)
from datamodules.labelled import LabelledPictures, Split
from datamodules.prediction import UnlabelledFiles

_IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


class DetectionDataModule(LabelledPictures):
    """Pictures with boxes, in padded batches.

    A batch has `image` (batch, 3, height, width), normalised and 0 in the padding, `padding_mask` (batch, height,
    width), True there; lists `boxes` of (n, 4), cx, cy, w, h as shares of the picture without its padding, and `labels`
    of (n,); `image_id`, `file_name`, and `original_size` (batch, 2), height and width in the file. In validation and
    test also `truth`, for each picture a dict of all its annotations as they are in the file: `boxes` (n, 4) x1, y1,
    x2, y2 in pixels of the file, `labels`, `area` and `crowd` (n,). Crowds are in `truth` only.

    Its facts: `class_names`, `num_classes`, `category_ids` (the file's own id of each label), `num_channels`, `mean`,
    `std`, and how pictures are sized, `image_size` and `max_size`.

    Every picture is scaled first; training then augments it, and may so change its size again. Boxes follow. What
    reaches out of a picture is cut off; boxes without width or height are left out of training, and a warning counts
    them. Pictures are kept in memory if those of a part take less than `cache_bytes`.

    Args:
        root: Folder of the data; `$ONECORE_DATA` if not given, or else `data`.
        batch_size: Pictures in a batch, per process; in training the last incomplete batch is dropped.
        num_workers: Processes that prepare batches, beside the one that trains.
        image_size: Length of a picture's shorter side; the file's own if not given.
        max_size: The most that the longer side may be, where the shorter side then is less; any if not given.
        augment: Random changes of a training picture with its boxes while it is uint8, as of
            `torchvision.transforms.v2`: RandomHorizontalFlip, RandomIoUCrop, ScaleJitter, RandomZoomOut, ...
        cache_bytes: The most memory that the scaled pictures of a part may take to be kept there.
        mean: Mean of each channel, of values in [0, 1]; ImageNet's if not given.
        std: Standard deviation of each channel; ImageNet's if not given.
        seed: Decides order and augmentation of the training; `$PL_GLOBAL_SEED` if not given, or else 0.

    Raises:
        ValueError: If a size or a deviation is not positive, only one of `mean` and `std` is given, or a RandomIoUCrop
            would never end.
    """

    fact_names = ("class_names", "num_classes", "category_ids", "num_channels", "mean", "std", "image_size", "max_size")

    def __init__(
        self,
        *,
        root: str | None = None,
        batch_size: int = 16,
        num_workers: int = 0,
        image_size: int | None = None,
        max_size: int | None = None,
        augment: list[nn.Module] | None = None,
        cache_bytes: int = 2**30,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(root=root, batch_size=batch_size, num_workers=num_workers, mean=mean, std=std, seed=seed)
        for name, value in (("image_size", image_size), ("max_size", max_size)):
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be positive")
        if cache_bytes < 0:
            raise ValueError(f"cache_bytes={cache_bytes} must not be negative")
        for name, values in (("mean", mean), ("std", std)):
            if values is not None and len(values) != NUM_CHANNELS:
                raise ValueError(f"{name}={values} must have {NUM_CHANNELS} values, one for each channel")
        self.augment = augment or []
        check_augment(self.augment)
        self.cache_bytes = cache_bytes
        self._sizes = {"image_size": image_size, "max_size": max_size}
        self._annotations: dict[Split, Annotations] = {}
        self._pictures: dict[Split, AnnotatedPictures] = {}

    @abstractmethod
    def _read(self, split: Split) -> Reading:
        """Reads a part's annotations; what is wrong becomes findings."""

    def _has_test(self) -> bool:
        """Whether there is a test part; if not, the validation part is tested."""
        return True

    def _categories(self) -> dict[int, str]:
        """The name of each category by its id, in the order of the labels: as the training part has them."""
        train = self._annotated("train")
        if not train.categories:
            nothing = Finding(Defect.FILE, f"{self.root}: the training part has no class, and so nothing to be learnt")
            raise [*train.findings, nothing][0].error()
        return train.categories

    def _find_facts(self) -> dict[str, Any]:
        categories = self._categories()
        mean, std = self._normalization or _IMAGENET
        return {
            "class_names": list(categories.values()),
            "num_classes": len(categories),
            "category_ids": list(categories),
            "num_channels": NUM_CHANNELS,
            "mean": list(mean),
            "std": list(std),
            **self._sizes,
        }

    @property
    def category_ids(self) -> list[int]:
        """The data's own id of each label."""
        return self.facts["category_ids"]

    @property
    def sizing(self) -> Sizing:
        """How pictures are scaled, in every part and in prediction."""
        return Sizing(image_size=self.facts["image_size"], max_size=self.facts["max_size"])

    def restore_facts(self, facts: Mapping[str, Any]) -> None:
        """Sets the facts of a trained model, so that no data need be there; sizes that were given stay.

        Args:
            facts: `facts` of the data module that the model was trained with.

        Raises:
            ValueError: If one is missing.
        """
        given = {name: value for name, value in self._sizes.items() if value is not None}
        super().restore_facts({**facts, **given})
        self._annotations, self._pictures = {}, {}

    def _annotated(self, split: Split) -> Annotations:
        """A part's annotations with their labels, whatever is wrong with them."""
        if split not in self._annotations:
            reading = self._read(split)
            own = self._facts is None and split == "train"
            self._annotations[split] = Annotations(reading, None if own else self.class_names)
        return self._annotations[split]

    def pictures(self, split: Split) -> AnnotatedPictures:
        """Gives the pictures of a part; they are read once.

        Raises:
            ValueError: If something is wrong with the annotations or the pictures; one line.
            FileNotFoundError: If a picture is missing.
        """
        if split == "test" and not self._has_test():
            rank_zero_warn(f"{self.root}: has no test part with annotations; the validation part is tested")
            split = "val"
        if split not in self._pictures:
            annotations = self._annotated(split)
            findings = annotations.findings + [
                Finding(Defect.MISSING, f"{picture.file}: its image {picture.path} is missing")
                for picture in annotations.pictures
                if not picture.path.is_file()
            ]
            if findings:
                raise findings[0].error(len(findings) - 1)
            if not len(annotations):
                raise ValueError(f"{self.root}: the {split} part has no picture")
            self._warn_of_degenerate(annotations, split)
            self._pictures[split] = AnnotatedPictures(annotations, sizing=self.sizing, cache_bytes=self.cache_bytes)
        return self._pictures[split]

    def _warn_of_degenerate(self, annotations: Annotations, split: Split) -> None:
        rows = annotations.degenerate.nonzero().flatten().tolist()
        if rows:
            rank_zero_warn(
                f"{len(rows)} of the {len(annotations.boxes)} boxes of the {split} part have no width or no height and"
                f" are left out: {annotations.where(rows[0])}{', ...' if len(rows) > 1 else ''}"
            )

    def check(self) -> Check:
        """Looks at every annotation and decodes every picture; reports what it finds, and stops at nothing."""
        splits: list[Split] = ["train", "val", "test"] if self._has_test() else ["train", "val"]
        try:
            _ = self.facts
        except (ValueError, FileNotFoundError):  # each part then has its own labels, and the report says what is wrong
            return Check([check_part(split, Annotations(self._read(split))) for split in splits])
        return Check([check_part(split, self._annotated(split)) for split in splits])

    def train_dataloader(self) -> DataLoader:
        """Batches of augmented training pictures, in the order of the epoch."""
        samples = DetectionSamples(self.pictures("train"), augment=self.augment)
        return self._train_loader(samples, CollateSamples(self.normalize))

    def val_dataloader(self) -> DataLoader:
        """Batches of all validation pictures, in a fixed order."""
        samples = DetectionSamples(self.pictures("val"), truth=True)
        return self._evaluation_loader(samples, CollateSamples(self.normalize))

    def test_dataloader(self) -> DataLoader:
        """Batches of all test pictures, in a fixed order."""
        samples = DetectionSamples(self.pictures("test"), truth=True)
        return self._evaluation_loader(samples, CollateSamples(self.normalize))

    def predict_loader(self, files: Sequence[Path]) -> DataLoader:
        """Batches `{"image", "padding_mask", "original_size", "index", "failed"}`, prepared exactly as for evaluation.

        `index` (batch,) says which of `files` each picture is; `failed` holds `(index, reason)` of each that could not
        be read, which is missing from the others.

        Args:
            files: The pictures.
        """
        samples = UnlabelledFiles(files, self.sizing.read)
        collate = CollateUnlabelled(self.normalize)
        return DataLoader(
            samples, batch_size=self.batch_size, num_workers=self.num_workers, collate_fn=collate, shuffle=False
        )

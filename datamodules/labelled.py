"""What the data modules of labelled pictures share, whatever the labels are."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

from datamodules.base import STAGES, DataModule, Split
from datamodules.pictures import Normalize
from datamodules.prediction import find_inputs


class LabelledPictures(DataModule):
    """Pictures in three parts, the names of their classes, and how they are normalised.

    Args:
        root: Folder of the data; `$ONECORE_DATA` if not given, or else `data`.
        batch_size: Pictures in a batch, per process.
        num_workers: Processes that prepare batches, beside the one that trains.
        mean: Mean of each channel, of values in [0, 1].
        std: Standard deviation of each channel.
        seed: Decides order and augmentation of the training; `$PL_GLOBAL_SEED` if not given, or else 0.

    Raises:
        ValueError: If a deviation is not positive, or only one of `mean` and `std` is given.
    """

    def __init__(
        self,
        *,
        root: str | None,
        batch_size: int,
        num_workers: int,
        mean: list[float] | None,
        std: list[float] | None,
        seed: int | None,
    ) -> None:
        super().__init__(root=root, batch_size=batch_size, num_workers=num_workers, seed=seed)
        if (mean is None) != (std is None):
            raise ValueError(f"mean={mean} and std={std} must be given together")
        if std is not None and min(std) <= 0:
            raise ValueError(f"std={std} must be positive")
        self._normalization = None if mean is None or std is None else (list(mean), list(std))

    @abstractmethod
    def pictures(self, split: Split) -> Any:
        """Gives the pictures of a part; they are read once."""

    @property
    def class_names(self) -> list[str]:
        """Name of each class, in the order of the labels."""
        return self.facts["class_names"]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.facts["num_classes"]

    @property
    def num_channels(self) -> int:
        """1 = grey, 3 = colour."""
        return self.facts["num_channels"]

    @property
    def mean(self) -> list[float]:
        """Mean of each channel, of values in [0, 1]."""
        return self.facts["mean"]

    @property
    def std(self) -> list[float]:
        """Standard deviation of each channel, of values in [0, 1]."""
        return self.facts["std"]

    @property
    def normalize(self) -> Normalize:
        """Normalises uint8 pictures by `mean` and `std`."""
        return Normalize(self.mean, self.std)

    def setup(self, stage: str | None = None) -> None:
        """Reads what a stage needs."""
        for split in STAGES.get(stage, ()):
            self.pictures(split)

    def predict_files(self, input: Path) -> list[Path]:  # noqa: A002 - the command's own word
        """Lists the pictures to predict.

        Args:
            input: A picture, or a folder that is searched with all below it.

        Raises:
            FileNotFoundError: If there is no such file or folder.
            ValueError: If the folder holds no picture.
        """
        return find_inputs(input)

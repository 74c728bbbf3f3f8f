"""Pictures in folders, one for each class."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn

from datamodules.images import ImageDataModule, Split
from datamodules.pictures import PictureFiles, Pictures, StoredPictures, channel_statistics, fit
from datamodules.reading import read_image, read_size
from datamodules.tree import Labelled, Tree, describe, read_each, scan

_CACHE_BYTES = 2**30
_NUM_SIZES = 100  # pictures looked at to find the data's size
_NUM_STATISTICS = 2000  # files looked at to find mean and deviation, if they are not in memory


class ImageFolder(ImageDataModule):
    """Pictures in `root/train/<class>/`, `root/val/<class>/` and `root/test/<class>/`.

    If `val` is missing, a share of each class of `train` takes its place. If `root` has no `train` either and holds the
    classes itself, shares of each class become validation and test. Splits are fixed: no seed changes them. Folders
    and files whose names begin with a dot are left out.

    Pictures are kept in memory if those of a split take less than 1 GiB, else they are read when needed. Bad files
    are found at setup: every picture is decoded if it is to be kept, or if bad ones are to be skipped; otherwise its
    header is read.

    Args:
        num_channels: 1 = grey, 3 = colour; every picture is converted.
        val_share: Share of each class that becomes validation where there is no `val`.
        test_share: Share of each class that becomes the test where there is no `train`.
        on_error: What happens on files that cannot be read: the run stops and names them, or goes on without them.
        cache: Whether pictures may be kept in memory.
        pictures: The arguments of `ImageDataModule`; `image_size`, `mean` and `std` are those of the training pictures
            if not given.

    Raises:
        ValueError: If the shares leave nothing to train, or an argument is refused by `ImageDataModule`.
    """

    found_by = tuple(f"train/*/*.{suffix}" for suffix in ("png", "jpg", "jpeg", "JPEG"))

    def __init__(
        self,
        *,
        num_channels: Literal[1, 3] = 3,
        val_share: float = 0.1,
        test_share: float = 0.1,
        on_error: Literal["stop", "skip"] = "stop",
        cache: bool = True,
        **pictures: Any,
    ) -> None:
        super().__init__(**pictures)
        if min(val_share, test_share) < 0 or val_share + test_share >= 1:
            raise ValueError(f"val_share={val_share} and test_share={test_share} must leave a share to train")
        self.val_share = val_share
        self.test_share = test_share
        self.on_error = on_error
        self.cache = cache
        self._wanted_channels = num_channels
        self._found: Tree | None = None

    @property
    def _tree(self) -> Tree:
        if self._found is None:
            self._found = scan(self.root, val_share=self.val_share, test_share=self.test_share)
        return self._found

    def _find_facts(self) -> dict[str, Any]:
        size, channels = self._size(), self._wanted_channels
        mean, std = [0.0] * channels, [1.0] * channels
        if self._normalization is None:
            train = self.pictures("train")
            most = len(train) if isinstance(train, StoredPictures) else _NUM_STATISTICS
            mean, std = channel_statistics(train, most)
            std = [value or 1.0 for value in std]  # a channel without any variation stays 0, not NaN
        return self._image_facts(self._tree.class_names, image_size=size, num_channels=channels, mean=mean, std=std)

    def _size(self) -> tuple[int, int]:
        """Height and width to read pictures with; does not need the facts, which need the pictures."""
        if self._facts is not None:
            return self.image_size
        if self._image_size is None:
            self._image_size = self._common_size(self._tree.splits["train"].paths)
        return self._image_size

    def _common_size(self, paths: list[Path]) -> tuple[int, int]:
        chosen = [paths[index] for index in torch.linspace(0, len(paths) - 1, min(_NUM_SIZES, len(paths))).long()]
        sizes: dict[tuple[int, int], Path] = {}
        _, messages = read_each(chosen, lambda path: sizes.setdefault(read_size(path), path))
        if not sizes:
            raise ValueError(describe(messages, total=len(chosen)))
        if len(sizes) > 1:
            examples = [f"{h}x{w} in {path.relative_to(self.root)}" for (h, w), path in list(sizes.items())[:2]]
            raise ValueError(
                f"{self.root}: pictures differ in size (height x width): {', '.join(examples)};"
                " give the size to bring them to with --data.image_size"
            )
        return next(iter(sizes))

    def _read(self, split: Split) -> Pictures:
        if split not in self._tree.splits:
            raise FileNotFoundError(f"{self.root / split}: no such folder, and train/ is not split for it")
        files, size = self._tree.splits[split], self._size()
        channels = self._wanted_channels if self._facts is None else self.num_channels
        if self.cache and len(files.paths) * channels * size[0] * size[1] <= _CACHE_BYTES:
            images = torch.empty(len(files.paths), channels, *size, dtype=torch.uint8)
            slots = iter(images)

            def keep(path: Path) -> None:
                picture = fit(read_image(path, channels), size)
                next(slots).copy_(picture)

            files = self._checked(files, keep)
            return StoredPictures(images[: len(files.paths)], files.labels)
        if self.on_error == "skip":
            files = self._checked(files, lambda path: read_image(path, channels))
        else:
            files = self._checked(files, read_size)
        return PictureFiles(files.paths, files.labels, num_channels=channels, image_size=size)

    def _checked(self, files: Labelled, read: Callable[[Path], object]) -> Labelled:
        good, messages = read_each(files.paths, read)
        if not messages:
            return files
        description = describe(messages, total=len(files.paths))
        if self.on_error == "stop" or not good:
            raise ValueError(f"{description}: remove them, or leave them out with --data.on_error=skip")
        rank_zero_warn(f"{description}: they are left out")
        return files.select(torch.tensor(good))

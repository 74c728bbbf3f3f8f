"""CIFAR-10 and CIFAR-100 in their public layout (Krizhevsky 2009)."""

from typing import Any, ClassVar

import torch
from torchvision import datasets

from datamodules.images import ImageDataModule, Split
from datamodules.pictures import StoredPictures
from datamodules.splits import stratified_split

_VAL_SHARE = 0.1  # 5,000 of the 50,000
_NAMES_10 = "airplane automobile bird cat deer dog frog horse ship truck"
_NAMES_100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""


class CIFAR10(ImageDataModule):
    """60,000 colour pictures of 32x32 in 10 classes: 45,000 to train, 5,000 to validate, 10,000 to test.

    The official training part gives up a tenth of each class for validation; the split is fixed, no seed changes it.

    Args:
        root: Folder that holds the unpacked archive's folder; `$ONECORE_DATA` if not given, or else `data`.
        download: Whether to download the data into `root` if they are not there.
        pictures: The arguments of `ImageDataModule`; `image_size` is 32, `mean` and `std` are those of the official
            training part, if not given.
    """

    found_by = ("cifar-10-batches-py/test_batch",)
    source: ClassVar[type[datasets.CIFAR10]] = datasets.CIFAR10
    names: ClassVar[tuple[str, ...]] = tuple(_NAMES_10.split())
    statistics: ClassVar[tuple[tuple[float, ...], tuple[float, ...]]] = (
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
    )

    def __init__(self, *, root: str | None = None, download: bool = False, **pictures: Any) -> None:
        super().__init__(root=root, **pictures)
        self.download = download

    def prepare_data(self) -> None:
        """Downloads, if that was asked for and is needed; Lightning calls this in one process only.

        Raises:
            FileNotFoundError: If the download fails.
        """
        if not self.download:
            return
        try:
            self.source(str(self.root), download=True)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise FileNotFoundError(f"{self.root}: {type(self).__name__} cannot be downloaded ({reason})") from error

    def _find_facts(self) -> dict[str, Any]:
        mean, std = self.statistics
        return self._image_facts(self.names, image_size=(32, 32), num_channels=3, mean=mean, std=std)

    def _read(self, split: Split) -> StoredPictures:
        try:
            data = self.source(str(self.root), train=split != "test")
        except RuntimeError:
            folder = self.root / self.source.base_folder
            name = type(self).__name__
            raise FileNotFoundError(
                f"{folder}: {name} is missing or damaged there; give its parent folder with --data.root,"
                " or let it be downloaded with --data.download=true"
            ) from None
        images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
        official = StoredPictures(images, torch.tensor(data.targets))
        if split == "test":
            return official
        train, val = stratified_split(official.labels, [_VAL_SHARE], seed=0)
        self._pictures.update(train=official.select(train), val=official.select(val))
        return official.select(train if split == "train" else val)


class CIFAR100(CIFAR10):
    """60,000 colour pictures of 32x32 in 100 classes, split and set up as those of `CIFAR10`."""

    found_by = ("cifar-100-python/test",)
    source: ClassVar[type[datasets.CIFAR10]] = datasets.CIFAR100
    names: ClassVar[tuple[str, ...]] = tuple(_NAMES_100.split())
    statistics: ClassVar[tuple[tuple[float, ...], tuple[float, ...]]] = (
        (0.5071, 0.4865, 0.4409),
        (0.2673, 0.2564, 0.2762),
    )

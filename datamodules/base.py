"""What every data module shares: where data lie, what is known of them, an order of training that can be resumed."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from datamodules.seeded import SeededSampler, ShareSampler, TrainLoader

Split = Literal["train", "val", "test"]
STAGES: dict[str | None, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
"""The parts that each of Lightning's stages needs."""


class DataModule(LightningDataModule, ABC):
    """A data set that knows its facts and its place in the training.

    Each of several processes has its share of every part. An evaluation counts every sample once; the share of a
    process that there is no sample for is one batch that is None.

    Making one touches no disk. A subclass finds the facts; each is published as a property of the same name, so that
    a model's argument can be linked to it.

    Args:
        root: Folder of the data; `$ONECORE_DATA` if not given, or else `data`.
        batch_size: Samples in a batch, per process.
        num_workers: Processes that prepare batches, beside the one that trains.
        seed: Decides order and augmentation of the training; `$PL_GLOBAL_SEED` (which `seed_everything` sets) if not
            given, or else 0. A resumed run keeps the seed it began with.

    Raises:
        ValueError: If `batch_size` is less than 1 or `num_workers` is negative.
    """

    fact_names: ClassVar[tuple[str, ...]] = ()
    """The facts that there must be."""
    package: ClassVar[str | None] = None
    """The package that carries the data, or what they are made with; None = they lie in a folder, or need nothing."""
    found_by: ClassVar[tuple[str, ...]] = ()
    """Patterns of paths below a folder that has such data: it has a path of one of them at least."""
    _taken: ClassVar[str] = "samples"
    """What `_global_batch` counts."""

    def __init__(
        self, *, root: str | None = None, batch_size: int = 64, num_workers: int = 0, seed: int | None = None
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1")
        if num_workers < 0:
            raise ValueError(f"num_workers={num_workers} must not be negative")
        self.root = Path(root or os.environ.get("ONECORE_DATA") or "data").expanduser().absolute()
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self._facts: dict[str, Any] | None = None
        self._resumed: dict[str, int] | None = None

    @abstractmethod
    def _find_facts(self) -> dict[str, Any]:
        """Finds the facts from the data; plain Python values only, as they go into checkpoints."""

    @classmethod
    def is_at(cls, folder: Path) -> bool:
        """Whether a folder looks as if it held such data: judged by names alone, nothing is read."""
        return any(next(folder.glob(pattern), None) for pattern in cls.found_by)

    @property
    def facts(self) -> dict[str, Any]:
        """What a model must know of the data; found at first use, unless a checkpoint has told."""
        if self._facts is None:
            self._facts = self._find_facts()
        return self._facts

    def restore_facts(self, facts: Mapping[str, Any]) -> None:
        """Sets the facts of a trained model, so that no data need be there.

        Args:
            facts: `facts` of the data module that the model was trained with.

        Raises:
            ValueError: If one is missing.
        """
        if missing := [name for name in self.fact_names if name not in facts]:
            kind = type(self).__name__
            raise ValueError(f"facts lack {', '.join(missing)}: they are not those of a data set as {kind}")
        self._facts = dict(facts)

    def state_dict(self) -> dict[str, Any]:
        """Gives the facts, the seed and the place in the training: the epoch and how many of its batches are done.

        `global_batch` is what all processes together take at a time.
        """
        epoch, batches = self._place()
        place = {"seed": self._seed(), "epoch": epoch, "batches": batches, "global_batch": self._global_batch()}
        return {"facts": self.facts, **place}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Makes the next training begin at the place where the checkpoint was written.

        Lightning calls this before the first `train_dataloader()`, but restores its own counters only after it if
        the optimizer's schedule asks for the number of steps: this is why the place is kept here.
        """
        if self.trainer is None or self.trainer.state.fn == "fit":
            self._resumed = {name: value for name, value in state_dict.items() if name != "facts"}

    def _place(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 0
        fit_loop = self.trainer.fit_loop
        epochs = fit_loop.epoch_progress.state_dict()["current"]
        if epochs["started"] == epochs["processed"]:  # between two epochs
            return epochs["processed"], 0
        # `processed` is what Lightning goes on from, also if a batch was interrupted; `completed` may lag behind.
        batches = fit_loop.epoch_loop.batch_progress.state_dict()["current"]["processed"]
        if batches >= self.trainer.num_training_batches:
            return epochs["processed"] + 1, 0
        return epochs["processed"], batches

    def _seed(self) -> int:
        return int(os.environ.get("PL_GLOBAL_SEED", "0")) if self.seed is None else self.seed

    def _ranks(self) -> dict[str, int]:
        if self.trainer is None:
            return {"rank": 0, "world_size": 1}
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}

    def _global_batch(self) -> int:
        """What all processes together take from the order of the training at a time: samples, unless told otherwise."""
        return self.batch_size * self._ranks()["world_size"]

    def _begin(self) -> tuple[int, int]:
        """Where the training begins: the epoch, and how many of its batches are done; sets a resumed run's seed.

        Raises:
            ValueError: If it begins within an epoch that was begun with another global batch.
        """
        if self._resumed is None:
            return 0, 0
        place, self._resumed = self._resumed, None
        self.seed, now = place["seed"], self._global_batch()
        before = place.get("global_batch", now)
        if place["batches"] and before != now:
            raise ValueError(
                f"the checkpoint lies within an epoch in which all processes together took {before} "
                f"{self._taken} at a time, and now they take {now}: go on with as many processes and as large batches"
            )
        return place["epoch"], place["batches"]

    def _train_loader(self, dataset: Dataset, collate: Callable[[list[Any]], Any]) -> DataLoader:
        """A loader whose data set is asked for `(index, seed)`; it goes on where a checkpoint was written."""
        epoch, batches = self._begin()
        size = len(dataset)  # pyright: ignore[reportArgumentType]
        ranks = self._ranks()
        sampler = SeededSampler(size, seed=self._seed(), epoch=epoch, skip=batches * self.batch_size, **ranks)
        if len(sampler) < self.batch_size:
            part = "" if ranks["world_size"] == 1 else f" for each of {ranks['world_size']} processes"
            raise ValueError(f"batch_size={self.batch_size} exceeds the {len(sampler)} training samples{part}")
        return self._loader(TrainLoader, dataset, sampler, collate, batch_size=self.batch_size, drop_last=True)

    def _evaluation_loader(self, dataset: Dataset, collate: Callable[[list[Any]], Any]) -> DataLoader:
        """A loader of every sample in a fixed order."""
        sampler = ShareSampler(len(dataset), **self._ranks())  # pyright: ignore[reportArgumentType]
        return self._loader(DataLoader, dataset, sampler, collate, batch_size=self.batch_size)

    def _loader(
        self,
        loader: type[DataLoader],
        dataset: Dataset,
        sampler: Sampler,
        collate: Callable[[list[Any]], Any],
        *,
        batch_size: int | None,
        drop_last: bool = False,
    ) -> DataLoader:
        """A loader with what all share; without a `batch_size`, each key of the sampler asks for a whole batch."""
        if isinstance(sampler, ShareSampler) and not len(sampler) and self._ranks()["world_size"] > 1:
            # Lightning passes an empty loader over, with all hooks in which the other processes wait for this one.
            return DataLoader([None], batch_size=None, collate_fn=as_it_is)  # pyright: ignore[reportArgumentType]
        return loader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate,
            drop_last=drop_last,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            generator=torch.Generator(),  # so that loading never draws from the model's random numbers
        )


def as_it_is(batch: Any) -> Any:
    """Collates nothing: for a data set that gives whole batches."""
    return batch

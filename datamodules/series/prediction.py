"""Users' files to forecast: the last steps of each of their series, in batches that say which could not be read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from datamodules.series.calendar import step_seconds
from datamodules.series.layout import TableLayout
from datamodules.series.reading import read_series
from datamodules.series.series import SeriesSet
from datamodules.series.standard import Standard


class LatestWindows(IterableDataset):
    """Batches of the series of files, in their order: what is known of each where its values end.

    A batch has what `Standard.latest` gives of series of one file, `index` (batch,), the number of the file, and
    `failed`, a list of `(index, reason)`; that of a file that cannot be read has no series. With several workers, each
    takes its share of the files.

    Args:
        paths: The files.
        read: Reads one.
        standard: How the training saw its series.
        batch_size: The most series in a batch.
    """

    def __init__(
        self, paths: Sequence[Path], *, read: Callable[[Path], SeriesSet], standard: Standard, batch_size: int
    ) -> None:
        self.paths = paths
        self.read = read
        self.standard = standard
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for index in range(first, len(self.paths), step):
            try:
                series = self.read(self.paths[index])
            except (ValueError, OSError) as error:
                yield self._failed(index, str(error))
                continue
            for begin in range(0, len(series.names), self.batch_size):
                end = min(begin + self.batch_size, len(series.names))
                numbers = torch.full((end - begin,), index)
                yield {**self.standard.latest(series, begin, end), "index": numbers, "failed": []}

    def _failed(self, index: int, reason: str) -> dict[str, Any]:
        return {**self.standard.nothing(), "index": torch.zeros(0, dtype=torch.long), "failed": [(index, reason)]}


def read_like(path: Path, facts: Mapping[str, Any]) -> SeriesSet:
    """Reads a user's file like the data of a training.

    Args:
        path: A CSV or Parquet file.
        facts: Those of the training.

    Raises:
        ValueError: If it cannot be read, or its steps are not those of the training; one line.
        FileNotFoundError: If there is no such file.
    """
    columns = {name: value for name, value in facts["layout"].items() if name != "fill"}
    series = read_series(path, TableLayout(**columns), fill=facts["layout"]["fill"], usual_frequency=facts["frequency"])
    check_like(series, facts, str(path))
    return series


def check_like(series: SeriesSet, facts: Mapping[str, Any], name: str) -> None:
    """Refuses series that are not of the training's kind.

    Args:
        series: The series.
        facts: Those of the training.
        name: What the series are called in messages.

    Raises:
        ValueError: If their columns or the length of their steps are not the training's; one line.
    """
    calendar = len(facts["covariate_names"]) - len(facts["known_mean"])
    for kind, found, trained in (
        ("channels", series.channel_names, facts["channel_names"]),
        ("covariates", series.covariate_names, facts["covariate_names"][calendar:]),
    ):
        if found != trained:
            raise ValueError(f"{name}: has the {kind} {found}, but the model was trained with {trained}")
    if step_seconds(series.frequency) != step_seconds(facts["frequency"]):
        raise ValueError(
            f"{name}: has a row every {series.frequency}, but the model was trained on one every {facts['frequency']}"
        )

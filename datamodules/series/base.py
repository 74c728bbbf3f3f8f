"""What the data modules of forecasting share: series, parts by borders in time, windows of history and future."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch.utils.data import DataLoader

from datamodules.base import STAGES, DataModule, Split, as_it_is
from datamodules.prediction import find_inputs
from datamodules.series.calendar import calendar_names, find_season
from datamodules.series.layout import TableLayout
from datamodules.series.prediction import LatestWindows, check_like, read_like
from datamodules.series.rows import Fill
from datamodules.series.scaling import Scaler, naive_errors, rows_of
from datamodules.series.series import SeriesSet
from datamodules.series.standard import Standard
from datamodules.series.windows import Origins, SeasonalNaive, Windows

_PARTS: tuple[Split, ...] = ("train", "val", "test")
_SUFFIXES = frozenset({".csv", ".tsv", ".gz", ".parquet"})


class ForecastDataModule(DataModule):
    """Series in windows of history and future: a subclass reads them and says where each part begins.

    A batch is what `datamodules.series.windows.Windows` says: `past`, `future`, `past_mask`, `future_mask`, `mean`,
    `std`, and `covariates` where there are any; in validation and test also the seasonal-naive baseline. Training sees
    the training part alone, and all that is scaled is scaled by it. Every window of the other parts counts, and its
    history reaches back into the part before.

    Its facts: `channel_names`, `num_channels`, `covariate_names` (the calendar's features, then the data's own
    columns), `num_covariates`, `context_length`, `prediction_length`, `frequency`, `season_length`; `mean`, `std` and
    `naive_error` (0 = there is none) of each channel, `known_mean` and `known_std` of the data's own covariates; and
    `layout`, by which a user's file is read.

    Args:
        root: Folder of the data; `$ONECORE_DATA` if not given, or else `data`.
        context_length: Steps of history that a forecast is made from.
        prediction_length: Steps that are forecast.
        batch_size: Windows in a batch, per process; in training the last incomplete batch is dropped.
        num_workers: Processes that prepare batches, beside the one that trains.
        stride: Steps between the windows of training; those of validation and test are a step apart.
        calendar: Whether hour, weekday, day and month are covariates, as the frequency has them.
        season_length: Steps of the season that seasonal-naive repeats; by the frequency if not given: a day, or a week
            of days, or a year of weeks or more.
        fill: What becomes of times that a file lacks, has twice or not in order: `ffill`, `interpolate` or `mask`; they
            are refused if not given. At prediction, what is given here goes before the training's.
        seed: Decides the order of the training; `$PL_GLOBAL_SEED` if not given, or else 0.

    Raises:
        ValueError: If a number is less than 1.
    """

    fact_names = (
        *("channel_names", "num_channels", "covariate_names", "num_covariates", "context_length", "prediction_length"),
        *("frequency", "season_length", "mean", "std", "naive_error", "known_mean", "known_std", "layout"),
    )

    def __init__(
        self,
        *,
        root: str | None = None,
        context_length: int = 336,
        prediction_length: int = 96,
        batch_size: int = 64,
        num_workers: int = 0,
        stride: int = 1,
        calendar: bool = False,
        season_length: int | None = None,
        fill: Fill | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(root=root, batch_size=batch_size, num_workers=num_workers, seed=seed)
        for name in ("context_length", "prediction_length", "stride", "season_length"):
            value = locals()[name]
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        self._lengths = {"context_length": context_length, "prediction_length": prediction_length}
        self.stride = stride
        self._calendar = calendar
        self._season_length = season_length
        self._fill: Fill | None = fill
        self._given: dict[str, Any] = {"fill": fill}  # of the layout
        self._raw: SeriesSet | None = None
        self._scaled: SeriesSet | None = None

    @abstractmethod
    def _read(self) -> SeriesSet:
        """Reads all series, in the data's own units.

        Raises:
            ValueError: If they cannot be read; one line that says what is wrong and where.
            FileNotFoundError: If they are missing.
        """

    @abstractmethod
    def _borders(self, lengths: Int64[np.ndarray, " series"]) -> Int64[np.ndarray, "series 4"]:
        """Gives the rows, counted within each series, at which training, validation and test begin and test ends.

        Args:
            lengths: Rows of each series.

        Raises:
            ValueError: If the series are too short for parts.
        """

    def _layout(self, series: SeriesSet) -> TableLayout:
        """Says which columns a user's file must have to be read like the data."""
        return TableLayout(value_columns=series.channel_names, covariate_columns=series.covariate_names)

    @property
    def _name(self) -> str:
        """What the data are called in messages."""
        return type(self).__name__

    def _series(self) -> SeriesSet:
        if self._raw is None:
            self._raw = self._read()
        return self._raw

    def _find_facts(self) -> dict[str, Any]:
        series = self._series()
        borders = self._borders(np.diff(series.starts))
        self._origins("train", borders, self._lengths)  # refused before a model is built
        train = rows_of(series.starts, borders[:, 0], borders[:, 1])
        scaler = Scaler.fit(series.values, train, series.channel_names)
        known = Scaler.fit(series.covariates, train, series.covariate_names)
        season_length = self._season_length or find_season(series.frequency)
        _, error = naive_errors(series.values, series.starts, borders[:, 1], season_length)
        calendar = calendar_names(series.frequency) if self._calendar else []
        return {
            "channel_names": list(series.channel_names),
            "num_channels": len(series.channel_names),
            "covariate_names": [*calendar, *series.covariate_names],
            "num_covariates": len(calendar) + len(series.covariate_names),
            **self._lengths,
            "frequency": series.frequency,
            "season_length": season_length,
            "mean": scaler.mean.tolist(),
            "std": scaler.std.tolist(),
            "naive_error": (error / scaler.std).tolist(),
            "known_mean": known.mean.tolist(),
            "known_std": known.std.tolist(),
            "layout": {**asdict(self._layout(series)), "fill": self._fill},
        }

    def restore_facts(self, facts: Mapping[str, Any]) -> None:
        """Sets the facts of a trained model, so that no data need be there; a `fill` or layout that was given stays.

        Args:
            facts: `facts` of the data module that the model was trained with.

        Raises:
            ValueError: If one is missing.
        """
        super().restore_facts(facts)
        given = {name: value for name, value in self._given.items() if value is not None}
        self.facts["layout"] = {**facts["layout"], **given}
        self._scaled = None

    @property
    def channel_names(self) -> list[str]:
        """What is forecast."""
        return self.facts["channel_names"]

    @property
    def num_channels(self) -> int:
        """Number of channels."""
        return self.facts["num_channels"]

    @property
    def covariate_names(self) -> list[str]:
        """What is known in the future as well: the calendar's features, then the data's own columns."""
        return self.facts["covariate_names"]

    @property
    def num_covariates(self) -> int:
        """Number of covariates."""
        return self.facts["num_covariates"]

    @property
    def context_length(self) -> int:
        """Steps of history."""
        return self.facts["context_length"]

    @property
    def prediction_length(self) -> int:
        """Steps that are forecast."""
        return self.facts["prediction_length"]

    @property
    def frequency(self) -> str:
        """The step of time, a pandas offset alias."""
        return self.facts["frequency"]

    @property
    def season_length(self) -> int:
        """Steps of the season that seasonal-naive repeats."""
        return self.facts["season_length"]

    @property
    def mean(self) -> list[float]:
        """Mean of each channel in the training part, in the data's own units."""
        return self.facts["mean"]

    @property
    def std(self) -> list[float]:
        """Standard deviation of each channel in the training part, in the data's own units."""
        return self.facts["std"]

    @property
    def naive_error(self) -> list[float]:
        """Mean absolute error of seasonal-naive in the training part, in units of `std`; 0 = there is none."""
        return self.facts["naive_error"]

    @property
    def layout(self) -> dict[str, Any]:
        """How a user's file is read like the training's: the fields of `TableLayout`, and `fill`."""
        return self.facts["layout"]

    def setup(self, stage: str | None = None) -> None:
        """Reads the series, and looks whether the parts that a stage needs have windows."""
        for split in STAGES.get(stage, ()):
            self.windows(split)

    def windows(self, split: Split) -> Windows:
        """Gives the windows of a part; all parts share the series, which are read once.

        Raises:
            ValueError: If the series cannot be read, or the part is too short for a window; one line.
            FileNotFoundError: If they are missing.
        """
        series = self._standardised()
        borders = self._borders(np.diff(series.starts))
        origins = self._origins(split, borders, self.facts)
        if split == "train":
            if too_short := int((origins.counts == 0).sum()):
                rank_zero_warn(
                    f"{self._name}: {too_short} of {len(origins.counts)} series have fewer rows to train than "
                    f"context_length={self.context_length} and prediction_length={self.prediction_length} together, "
                    "and are left out of the training"
                )
            return self._windows(series, origins.with_future(series, self.prediction_length))
        return self._windows(series, origins, baseline=self._baseline(series, borders[:, 1]))

    def _standardised(self) -> SeriesSet:
        if self._scaled is None:
            facts, series = self.facts, self._series()
            check_like(series, facts, self._name)
            self._scaled = Standard.of(facts)(series)
            self._raw = None  # the series in their own units would double the memory
        return self._scaled

    def _origins(self, split: Split, borders: Int64[np.ndarray, "series 4"], lengths: Mapping[str, int]) -> Origins:
        begin, end = borders[:, _PARTS.index(split)], borders[:, _PARTS.index(split) + 1]
        horizon = lengths["prediction_length"]
        if split != "train":
            origins = Origins.between(begin, end - horizon)
            asked = f"prediction_length={horizon} exceeds"
        else:
            context = lengths["context_length"]
            origins = Origins.between(begin + context, end - horizon, stride=self.stride)
            asked = f"context_length={context} and prediction_length={horizon} together exceed"
        if not len(origins):
            raise ValueError(f"{self._name}: {asked} the {(end - begin).max()} rows of the {split} part; lower them")
        return origins

    def _baseline(self, series: SeriesSet, ends: Int64[np.ndarray, " series"]) -> SeasonalNaive:
        """Each series' own error in the training part, or if there is none that of all."""
        errors, _ = naive_errors(series.values, series.starts, ends, self.season_length)
        return SeasonalNaive(self.season_length, np.where(errors > 0, errors, self.naive_error).astype(np.float32))

    def _windows(self, series: SeriesSet, origins: Origins, **more: Any) -> Windows:
        lengths = {"context_length": self.context_length, "prediction_length": self.prediction_length}
        return Windows(series, origins, **lengths, scaler=Standard.of(self.facts).scaler, **more)

    def train_dataloader(self) -> DataLoader:
        """Batches of training windows, in the order of the epoch; those whose whole future is missing are left out."""
        return self._train_loader(self.windows("train"), as_it_is)

    def val_dataloader(self) -> DataLoader:
        """Batches of all validation windows, in a fixed order."""
        return self._evaluation_loader(self.windows("val"), as_it_is)

    def test_dataloader(self) -> DataLoader:
        """Batches of all test windows, in a fixed order."""
        return self._evaluation_loader(self.windows("test"), as_it_is)

    def predict_files(self, input: Path) -> list[Path]:  # noqa: A002 - the command's own word
        """Lists the files to forecast.

        Args:
            input: A CSV or Parquet file, or a folder that is searched with all below it.

        Raises:
            FileNotFoundError: If there is no such file or folder.
            ValueError: If the folder holds no such file.
        """
        return find_inputs(input, _SUFFIXES, kind="file of series")

    def predict_loader(self, files: Sequence[Path]) -> DataLoader:
        """Batches of the series of files, as `LatestWindows` says.

        Args:
            files: CSV or Parquet files.
        """
        read = partial(read_like, facts=self.facts)
        windows = LatestWindows(files, read=read, standard=Standard.of(self.facts), batch_size=self.batch_size)
        return DataLoader(windows, batch_size=None, num_workers=self.num_workers, collate_fn=as_it_is)

    def backtest_loader(self, file: Path, *, stride: int | None = None) -> DataLoader:
        """Batches of a file's windows at rolling origins, as of the test part, with the times of each window's steps.

        The first origin of a series is where it has a whole history, the last where it has a whole future.

        Args:
            file: A CSV or Parquet file.
            stride: Steps from an origin to the next; `prediction_length` if not given, so that futures do not overlap.

        Raises:
            ValueError: If the file cannot be read, `stride` is less than 1 or no series is long enough; one line.
            FileNotFoundError: If there is no such file.
        """
        stride = self.prediction_length if stride is None else stride
        if stride < 1:
            raise ValueError(f"stride={stride} must be at least 1")
        series = Standard.of(self.facts)(read_like(file, self.facts))
        lengths = np.diff(series.starts)
        first = np.full(len(lengths), self.context_length)
        origins = Origins.between(first, lengths - self.prediction_length, stride=stride)
        if not len(origins):
            raise ValueError(
                f"{file}: has {lengths.max()} rows, but a backtest needs {self.context_length} of history "
                f"and {self.prediction_length} of future"
            )
        errors = np.tile(np.array(self.naive_error, np.float32), (len(lengths), 1))
        baseline = SeasonalNaive(self.season_length, errors)
        return self._evaluation_loader(self._windows(series, origins, baseline=baseline, times=True), as_it_is)

"""Series in standard units: values and covariates scaled as the facts of a training say, the calendar beside them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from datamodules.series.calendar import calendar_features, calendar_of
from datamodules.series.scaling import Scaler
from datamodules.series.series import SeriesSet
from datamodules.series.windows import gather, times_of


@dataclass(frozen=True, eq=False)
class Standard:
    """How a training saw its series, and so how others must be shown to its model.

    Args:
        scaler: Of the channels.
        known: Of the data's own covariates.
        calendar: Names of the calendar's features, the covariates before them.
        context_length: Steps of history.
        prediction_length: Steps of future.
    """

    scaler: Scaler
    known: Scaler
    calendar: list[str]
    context_length: int
    prediction_length: int

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Standard":
        """Takes it from the facts of a data module."""
        parts = {name: np.array(facts[name], np.float64) for name in ("mean", "std", "known_mean", "known_std")}
        calendar = facts["covariate_names"][: facts["num_covariates"] - len(parts["known_mean"])]
        return cls(
            Scaler(parts["mean"], parts["std"]),
            Scaler(parts["known_mean"], parts["known_std"]),
            calendar,
            facts["context_length"],
            facts["prediction_length"],
        )

    def __call__(self, series: SeriesSet) -> SeriesSet:
        """Brings whole series to standard units, 32-bit numbers; the calendar's features are its first covariates."""
        covariates = np.empty((len(series.values), len(self.calendar) + len(self.known.mean)), np.float32)
        covariates[:, : len(self.calendar)] = calendar_of(series, self.calendar)
        covariates[:, len(self.calendar) :] = self.known(series.covariates)
        names = [*self.calendar, *series.covariate_names]
        return replace(series, values=self.scaler(series.values), covariates=covariates, covariate_names=names)

    def latest(self, series: SeriesSet, first: int, last: int) -> dict[str, Any]:
        """Makes a batch of what is known of series `first` to `last - 1` where their values end.

        It has `past`, `past_mask`, `covariates`, `mean` and `std` as of `Windows`, `past_times` and `future_times`, and
        the `names` of the series. Where there are covariates, rows at the end without any value are the future's.

        Args:
            series: As read, in the data's own units.
            first: Number of the first series.
            last: Number of the series after the last.
        """
        which = np.arange(first, last)
        origin = np.array([_end_of_values(series, number) for number in range(first, last)], np.int64)
        values, missing = gather(series.values, series.starts, which, origin - self.context_length, self.context_length)
        past = self.scaler(values)
        past[missing] = 0
        times = times_of(series, which, origin, self.context_length, self.prediction_length)
        batch = {"past": torch.from_numpy(past), "past_mask": torch.from_numpy(missing), **times}
        if self.calendar or series.covariate_names:
            batch["covariates"] = torch.from_numpy(self._covariates(series, which, origin, times))
        names = {"names": series.names[first:last], "channel_names": series.channel_names}
        return batch | self.scaler.repeat(len(which)) | names

    def nothing(self) -> dict[str, Any]:
        """Makes what `latest` gives, but of no series."""
        steps, channels = self.context_length, len(self.scaler.mean)
        batch = {
            "past": torch.zeros(0, steps, channels),
            "past_mask": torch.zeros(0, steps, channels, dtype=torch.bool),
        }
        if num_covariates := len(self.calendar) + len(self.known.mean):
            batch["covariates"] = torch.zeros(0, steps + self.prediction_length, num_covariates)
        lists = {name: [] for name in ("past_times", "future_times", "names", "channel_names")}
        return batch | self.scaler.repeat(0) | lists

    def _covariates(
        self, series: SeriesSet, which: np.ndarray, origin: np.ndarray, times: dict[str, list]
    ) -> Float32[np.ndarray, "batch steps covariates"]:
        begin, steps = origin - self.context_length, self.context_length + self.prediction_length
        raw, missing = gather(series.covariates, series.starts, which, begin, steps)
        known = self.known(raw)
        known[missing] = 0
        pairs = zip(times["past_times"], times["future_times"], strict=True)
        calendar = np.stack([calendar_features(past.append(future), self.calendar) for past, future in pairs])
        calendar[begin[:, None] + np.arange(steps) < 0] = 0  # as in training, where there is no row
        return np.concatenate([calendar, known], axis=-1)


def _end_of_values(series: SeriesSet, number: int) -> int:
    """Where a series' future begins: behind its last row, or behind its last value if covariates go on."""
    values = series.values[series.starts[number] : series.starts[number + 1]]
    if series.covariate_names:
        known = np.flatnonzero(~np.isnan(values).all(axis=1))
        return int(known[-1]) + 1 if len(known) else len(values)
    return len(values)

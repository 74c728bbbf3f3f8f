"""Tables on disk, and what reading them says."""

from pathlib import Path

import pandas as pd
import pytest

from datamodules.series.layout import TableLayout
from datamodules.series.reading import read_series
from datamodules.series.series import SeriesSet

TIMES = [f"2024-01-0{day}" for day in range(1, 7)]


def write_text(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "table.csv"
    path.write_bytes(text.encode(encoding))
    return path


def read_text(folder: Path, text: str, fill=None, **layout) -> SeriesSet:
    return read_series(write_text(folder, text), TableLayout(**layout), fill=fill)


def mistake(folder: Path, text: str, fill=None, **layout) -> str:
    """The one line that a mistake gets, without the folder."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the caller looks at the line
        read_text(folder, text, fill, **layout)
    line = str(caught.value)
    assert "\n" not in line
    return line.replace(f"{folder}/", "")


def column(*values: str, times=TIMES, header: str = "time,load") -> str:
    """A wide table of one channel."""
    return "\n".join([header, *(f"{time},{value}" for time, value in zip(times, values, strict=False))]) + "\n"


def all_times(series: SeriesSet, number: int = 0) -> pd.DatetimeIndex:
    return series.times(number, 0, int(series.starts[number + 1] - series.starts[number]))

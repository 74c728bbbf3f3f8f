"""Which columns of a table are times, ids, values and covariates: as said, or as they look."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute

from datamodules.series.frequency import parse_frequency
from datamodules.series.sources import Source
from datamodules.series.timestamps import NO_TIME, TimeFormat, find_formats

pc: Any = pyarrow.compute  # its functions are made at import, where pyright cannot see them
_NUM_LISTED = 8  # names of columns in a message
_LIKE_TIME = re.compile("year|month|date|time|epoch|^ds$", re.IGNORECASE)


@dataclass(frozen=True)
class TableLayout:
    """How a table holds series; what is not given is found by a look at its first rows.

    A wide table has a column of times and a column for each channel; a long one has an id in each row as well, and its
    series lie below each other in any order.

    Args:
        time_column: The column of times; the first that reads as times if not given.
        id_column: The column that tells series apart; the column of text that is no time if not given; "" for none.
        value_columns: What to forecast; all other columns of numbers if not given.
        covariate_columns: What is known in the future as well, such as a tariff or a forecast of the weather.
        frequency: Step of time between two rows, a pandas offset alias such as `15min`, `h`, `D`, `W`, `MS`; the most
            frequent one if not given.
        timezone: Where the times are local, such as `Europe/London`; they are shown there. Without it times are taken
            as they stand, and those with an offset from UTC are shown in UTC.
        time_format: How times are written, such as `%d/%m/%Y %H:%M`, `ISO8601`, or `s` for seconds since 1970; found
            if not given.

    Raises:
        ValueError: If the frequency or the timezone is unknown.
    """

    time_column: str | None = None
    id_column: str | None = None
    value_columns: list[str] | None = None
    covariate_columns: list[str] | None = None
    frequency: str | None = None
    timezone: str | None = None
    time_format: str | None = None

    def __post_init__(self) -> None:
        if self.frequency is not None:
            parse_frequency(self.frequency)
        if self.timezone is not None:
            try:
                ZoneInfo(self.timezone)
            except (KeyError, ValueError, OSError):
                message = f"timezone={self.timezone} is unknown: give a name such as Europe/London or UTC"
                raise ValueError(message) from None
        if self.value_columns is not None and not self.value_columns:
            raise ValueError("value_columns=[] names no column to forecast")


@dataclass(frozen=True)
class Columns:
    """The columns of one table that are read: all are named.

    Args:
        time: The column of times.
        id: The column that tells series apart; none in a wide table.
        values: What to forecast.
        covariates: What is known in the future.
        time_format: How times are written.
    """

    time: str
    id: str | None
    values: list[str]
    covariates: list[str]
    time_format: TimeFormat

    def settle(self, layout: TableLayout) -> TableLayout:
        """Gives the layout with these columns' names, to read another table like this one.

        The format of times is kept only where it decides what is day and month, since a table of another length may
        leave that open.
        """
        name = self.time_format.name
        return replace(
            layout,
            time_column=self.time,
            id_column=self.id or "",
            value_columns=self.values,
            covariate_columns=self.covariates,
            time_format=layout.time_format or (name if name.startswith(("%d", "%m")) else None),
        )


def find_columns(source: Source, layout: TableLayout) -> Columns:
    """Finds the columns of a table.

    Raises:
        ValueError: If one is missing or what is meant is not clear; one line.
    """
    path, sample = source.path, source.sample
    if twice := [name for name in sample.column_names if sample.column_names.count(name) > 1]:
        raise ValueError(f"{path}: has several columns {twice[0]!r}: give each a name of its own")
    names = [name for name in sample.column_names if not _is_padding(name, sample[name])]
    _check_names(source, names, layout)
    named = [*(layout.value_columns or []), *(layout.covariate_columns or []), layout.id_column]
    time, time_format = _find_time(source, [name for name in names if name not in named], layout)
    covariates = layout.covariate_columns or []
    rest = [name for name in names if name != time and name not in covariates]
    if "" in rest:
        raise ValueError(f"{path}: column {sample.column_names.index('') + 1} has no name")
    series = layout.id_column
    if series is None:
        chosen = layout.value_columns or []
        series = _find_id(source, [name for name in rest if name not in chosen and _part_numbers(source, name) < 0.5])
    values = layout.value_columns or [name for name in rest if name != series]
    if not values:
        raise ValueError(f"{path}: has no column of numbers to forecast; there are {_listed(names)}")
    for name in [*values, *covariates]:
        if not _part_numbers(source, name):
            raise ValueError(
                f"{path}: column {name!r} holds no numbers ({_first(source, name)!r}): name what to forecast by "
                "--data.layout.value_columns"
            )
    return Columns(time, series or None, list(values), list(covariates), time_format)


def _check_names(source: Source, names: Sequence[str], layout: TableLayout) -> None:
    named = [*(layout.value_columns or []), *(layout.covariate_columns or [])]
    named += [name for name in (layout.time_column, layout.id_column) if name]
    for name in named:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {_listed(names)}"
            raise ValueError(f"{source.path}: has no column {name!r}; {hint}")
        if named.count(name) > 1:
            raise ValueError(f"--data.layout names the column {name!r} twice: it can have one role")
    if len(names) == 1:
        raise ValueError(f"{source.path}: has one column, {names[0]!r}: there must be one of times and one of values")


def _find_time(source: Source, names: Sequence[str], layout: TableLayout) -> tuple[str, TimeFormat]:
    """The column of times and their format: dates come before whole numbers that may be years or seconds."""
    dates = [name for name in names if _part_numbers(source, name) < 0.5]
    numbers = [name for name in names if name not in dates and (name == names[0] or _LIKE_TIME.search(name))]
    for name in [*dates, *numbers] if layout.time_column is None else [layout.time_column]:
        formats = find_formats(source.sample[name].combine_chunks(), layout.time_format)
        if len(formats) > 1:
            choices = " or ".join(found.name for found in formats)
            raise ValueError(
                f"{source.path}: column {name!r}: {_first(source, name)!r} may be read in several ways, and no other "
                f"time there decides: say --data.layout.time_format={choices}"
            )
        if formats:
            if formats[0].parse(pa.array([name]))[0] != NO_TIME:
                raise ValueError(f"{source.path}: has no header: put a line of column names before the data")
            return name, formats[0]
    hint = "dates such as 2024-01-31 13:00 or 31.01.2024, years, or seconds since 1970"
    if layout.time_format is not None:
        hint = f"--data.layout.time_format={layout.time_format}"
    if layout.time_column is not None:
        example = _first(source, layout.time_column)
        raise ValueError(f"{source.path}: column {layout.time_column!r} holds no times ({example!r} is none of {hint})")
    raise ValueError(
        f"{source.path}: has no column of times ({hint}): name one by --data.layout.time_column; there are "
        f"{_listed(source.sample.column_names)}"
    )


def _find_id(source: Source, texts: Sequence[str]) -> str | None:
    """The column of text that tells series apart, if there is one."""
    ids = [name for name in texts if not find_formats(source.sample[name].combine_chunks())]
    if len(ids) > 1:
        raise ValueError(
            f"{source.path}: the columns {_listed(ids)} hold text: name the one that tells series apart by "
            "--data.layout.id_column, and what to forecast by --data.layout.value_columns"
        )
    return ids[0] if ids else None


def _part_numbers(source: Source, name: str) -> float:
    """The part of the sample's values that are numbers; 1 where all are missing."""
    part = pc.mean(source.is_number(source.sample[name].combine_chunks()).cast(pa.int8())).as_py()
    return 1.0 if part is None else part


def _is_padding(name: str, column: pa.ChunkedArray) -> bool:
    """Whether a column without a name is empty, or counts the rows as pandas writes its index."""
    if name not in ("", "Unnamed: 0", "__index_level_0__"):
        return False
    counted = [[str(row + first) for row in range(len(column))] for first in (0, 1)]
    return column.null_count == len(column) or [str(value) for value in column.to_pylist()] in counted


def _first(source: Source, name: str) -> Any:
    values = source.sample[name].drop_null()
    return values[0].as_py() if len(values) else None


def _listed(names: Iterable[str]) -> str:
    names = [repr(name) for name in names]
    more = len(names) - _NUM_LISTED
    return ", ".join(names[:_NUM_LISTED]) + (f" and {more} more" if more > 0 else "")

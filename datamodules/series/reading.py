"""Reads series from a table: CSV or Parquet, wide or long."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from datamodules.series.clocks import to_utc, to_wall
from datamodules.series.frequency import ClockStep, Step, parse_frequency
from datamodules.series.inference import find_step
from datamodules.series.layout import Columns, TableLayout, find_columns
from datamodules.series.repair import Grids, fill_times, sort_times
from datamodules.series.rows import FILL_CHOICES, Fill, Rows, check_times
from datamodules.series.series import SeriesSet
from datamodules.series.sources import Source, open_source
from datamodules.series.timestamps import NO_TIME


def read_series(
    path: str | Path,
    layout: TableLayout = TableLayout(),  # noqa: B008 - frozen, and so shared without harm
    *,
    fill: Fill | None = None,
    usual_frequency: str | None = None,
) -> SeriesSet:
    """Reads the series of a CSV or Parquet file, in blocks: what stays in memory is times, ids and numbers.

    Empty cells and NA, N/A, nan, null, None, - and ? are missing values: NaN. Without `fill` each series must have
    each time of its grid once and in order.

    Args:
        path: The file.
        layout: Which column is what.
        fill: What becomes of times that are missing, irregular, twice there or not in order: all are sorted, equal
            rows become one, and what is missing takes the last value before (`ffill`), is interpolated in time
            (`interpolate`, which looks ahead) or is missing (`mask`). See `fill_times`.
        usual_frequency: The step of time where no series has two times, so that none can be seen.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read as series: one line that says what is wrong, where, and what to do.
    """
    source = open_source(path)
    return _read(source, find_columns(source, layout), layout, fill, usual_frequency)


def find_layout(path: str | Path, layout: TableLayout = TableLayout()) -> TableLayout:  # noqa: B008
    """Gives a layout with the names of a file's columns, to read others like it; looks at its first rows alone.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If its columns are not clear; one line.
    """
    return find_columns(open_source(path), layout).settle(layout)


def _read(
    source: Source, columns: Columns, layout: TableLayout, fill: Fill | None, usual_frequency: str | None
) -> SeriesSet:
    rows = _read_rows(source, columns)
    if usual_frequency is not None and (np.diff(rows.starts) == 1).all():
        layout = replace(layout, frequency=layout.frequency or usual_frequency)
    rows, step = _settle_step(rows, columns, layout)
    num_values = len(columns.values)
    if fill is None:
        check_times(rows, step)
        grids = Grids(rows.times[rows.starts[:-1]], rows.values, rows.starts)
    else:
        grids = fill_times(sort_times(rows), step, fill, num_values=num_values)
    first = pd.DatetimeIndex(grids.first.view("M8[us]"))
    if rows.zone is not None:
        first = first.tz_localize("UTC").tz_convert(rows.zone)
    elif zone := layout.timezone or ("UTC" if columns.time_format.has_offset else None):
        first = first.tz_localize(zone, ambiguous=np.ones(len(first), bool), nonexistent="shift_forward")
    return SeriesSet(
        names=rows.names,
        channel_names=columns.values,
        covariate_names=columns.covariates,
        values=grids.values[:, :num_values],
        covariates=grids.values[:, num_values:],
        starts=grids.starts,
        first=first,
        frequency=step.alias(int(grids.first[0])),
    )


def _read_rows(source: Source, columns: Columns) -> Rows:
    """Reads the table and lays series one after another; times stay as they are written."""
    keys = [columns.time, *([columns.id] if columns.id is not None else [])]
    numbers = [*columns.values, *columns.covariates]
    codes: dict[str, int] = {}
    blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    row = 0
    for block in source.blocks(keys, numbers):
        times = columns.time_format.parse(block.column(0))
        if (times == NO_TIME).any():
            raise ValueError(_no_time(source, columns, block, row, int(np.argmax(times == NO_TIME))))
        values = np.empty((len(block), len(numbers)))
        for place, column in enumerate(block.columns[len(keys) :]):
            values[:, place] = column.to_numpy(zero_copy_only=False)
        if np.isinf(values).any():
            wrong, place = np.argwhere(np.isinf(values))[0]
            raise ValueError(
                f"{source.path}: {source.place(row + int(wrong))}, column {numbers[place]!r}: the value is infinite: "
                "write a finite number, or leave the cell empty where it is missing"
            )
        ids = np.zeros(0, np.int32) if columns.id is None else _encode(block.column(1), codes)
        if "" in codes and (ids == codes[""]).any():
            wrong = source.place(row + int(np.argmax(ids == codes[""])))
            raise ValueError(f"{source.path}: {wrong}, column {columns.id!r}: there is no id")
        blocks.append((times, ids, values))
        row += len(block)
    times, ids, values = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    if columns.id is None:
        return Rows(source, [""], times, values, np.array([0, len(times)]), None)
    order = None
    if (np.diff(ids) < 0).any():
        order = np.argsort(ids, kind="stable")
        times, values = times[order], values[order]
    starts = np.concatenate([[0], np.cumsum(np.bincount(ids))])
    return Rows(source, list(codes), times, values, starts, order)


def _settle_step(rows: Rows, columns: Columns, layout: TableLayout) -> tuple[Rows, Step]:
    """Finds the step of time, and brings the times to what it counts in: UTC, or clocks on the wall."""
    path, zone = rows.source.path, layout.timezone
    utc = rows.times if columns.time_format.has_offset else None
    if utc is not None and zone is not None:
        rows = replace(rows, times=to_wall(utc, zone))
    step = parse_frequency(layout.frequency) if layout.frequency is not None else _find_step(sort_times(rows))
    if not isinstance(step, ClockStep):
        return rows, step
    if utc is None and zone is not None:
        utc = to_utc(rows.times, rows.starts, zone)
        if (utc == NO_TIME).any():
            row = rows.place(int(np.argmax(utc == NO_TIME)))
            raise ValueError(
                f"{path}: {row} is a time that clocks in {zone} skipped: correct --data.layout.timezone, or leave it "
                "out where the times are of a clock that never changes"
            )
    if utc is None:
        return rows, step
    return replace(rows, times=utc, zone=zone or "UTC"), step


def _find_step(rows: Rows) -> Step:
    found = find_step(rows.times, rows.starts)
    if found is None:
        raise ValueError(
            f"{rows.source.path}: no series has two times, so that no step of time can be seen: name it by "
            "--data.layout.frequency, such as h or D"
        )
    if found.mixed is not None:
        (one, step), (other, other_step) = found.mixed
        says = (
            f"{rows.place(int(rows.starts[series]))} begins series {rows.names[series]!r} with the step "
            f"{kind.alias(int(rows.times[rows.starts[series]]))}"
            for series, kind in ((one, step), (other, other_step))
        )
        raise ValueError(
            f"{rows.source.path}: mixed frequencies: {', but '.join(says)}: put each into a file of its own, or choose "
            f"one by --data.layout.frequency and {FILL_CHOICES}"
        )
    if found.part < 0.5:
        name = found.step.alias(int(rows.times[0]))
        raise ValueError(
            f"{rows.source.path}: times are irregular: the most frequent step, {name}, is {found.part:.0%} of them; "
            f"name the step by --data.layout.frequency and choose {FILL_CHOICES}"
        )
    return found.step


def _encode(ids: pa.Array, codes: dict[str, int]) -> np.ndarray:
    """Gives each id its number, in the order in which they first appear."""
    encoded = ids.cast(pa.string()).fill_null("").dictionary_encode()
    known = [codes.setdefault(name, len(codes)) for name in encoded.dictionary.to_pylist()]
    return np.array(known, np.int32)[encoded.indices.to_numpy()]


def _no_time(source: Source, columns: Columns, block: pa.RecordBatch, row: int, wrong: int) -> str:
    value = block.column(0)[wrong].as_py()
    name = columns.time_format.name
    where = f"{source.path}: {source.place(row + wrong)}, column {columns.time!r}"
    if value is None or value == "":
        return f"{where}: there is no time"
    return f"{where}: {value!r} is no time as the first ones are ({name}): correct it"

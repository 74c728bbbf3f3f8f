"""Times as files write them: ISO 8601, other dates, years, and seconds since 1970."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

_ISO = "ISO8601"
_EPOCHS = {"s": (9, 10), "ms": (12, 13), "us": (15, 16), "ns": (18, 19)}  # digits of the times since 1970 in each unit
_NUMBERS = ("%Y%m%d", "%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d%H%M%S", "%Y%m", "%Y")  # dates that look like numbers
_DIGITS = {"%Y%m%d": 8, "%Y%m%d%H": 10, "%Y%m%d%H%M": 12, "%Y%m%d%H%M%S": 14, "%Y%m": 6, "%Y": 4}
_YEARS = {"%Y": (1500, 2200)}  # plausible ones; of longer numbers fewer are, as they may be something else
_DATES = (
    ("%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%Y", "%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%Y/%m/%d", "%Y.%m.%d")
    + ("%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d%b%Y", "%a, %d %b %Y")
    + ("%m/%Y", "%Y/%m", "%b-%Y", "%b %Y", "%B %Y", "%b-%y")
)
_CLOCKS = ("", "%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p")
_HAS_OFFSET = r"[:\d]\s*(Z|UTC|GMT|[+-]\d\d(:?\d\d)?)$"
NO_TIME = np.iinfo(np.int64).min
"""What stands for a time that cannot be read."""


@dataclass(frozen=True)
class TimeFormat:
    """One way to write times.

    Args:
        name: `ISO8601`, a format of `strptime`, or `s`, `ms`, `us`, `ns` for a number of these since 1970.
        has_offset: Whether each time says how far it is from UTC.
    """

    name: str
    has_offset: bool = False

    def parse(self, column: pa.Array) -> Int64[np.ndarray, " rows"]:
        """Reads text or whole numbers as microseconds since 1970: of UTC with an offset, else as a wall shows them.

        What is no such time is `NO_TIME`.
        """
        if self.name in _EPOCHS:
            numbers = pd.to_numeric(column.to_pandas(), errors="coerce")
            return _microseconds(pd.to_datetime(numbers, unit=self.name, errors="coerce", utc=True))
        if not _is_text(column.type):
            column = column.cast(pa.string())
        if self.name == _ISO:
            try:  # four times as quick as pandas, which reads more
                times = column.cast(pa.timestamp("us", "UTC" if self.has_offset else None))
                return times.cast(pa.int64()).fill_null(NO_TIME).to_numpy(zero_copy_only=False)
            except pa.ArrowInvalid:
                pass
        column = pc.utf8_trim_whitespace(column)
        alike = pc.equal(pc.match_substring_regex(column, _HAS_OFFSET), pa.scalar(self.has_offset))
        column = pc.if_else(alike, column, None) if self.name == _ISO else column
        times = pd.to_datetime(column.to_pandas(), format=self.name, errors="coerce", utc=self.has_offset or None)
        return _microseconds(times)


def find_formats(sample: pa.Array) -> list[TimeFormat]:
    """Finds the formats in which all of some texts or whole numbers are times; several where day and month may swap.

    >>> [found.name for found in find_formats(pa.array(["03/04/2024", "03/05/2024"]))]
    ['%d/%m/%Y', '%m/%d/%Y']
    >>> [found.name for found in find_formats(pa.array(["03/04/2024", "03/15/2024"]))]
    ['%m/%d/%Y']
    """
    sample = sample.drop_null().unique()
    if pa.types.is_integer(sample.type):
        sample = sample.cast(pa.string())
    if not len(sample) or not _is_text(sample.type):
        return []
    sample = pc.utf8_trim_whitespace(sample)
    if pc.all(pc.match_substring_regex(sample, r"^-?\d+$")).as_py():
        return _find_numbers(sample)
    first = sample[0].as_py()
    if any(character.isdigit() for character in first):
        iso = TimeFormat(_ISO, has_offset=pc.match_substring_regex(sample[:1], _HAS_OFFSET)[0].as_py())
        if not _is_number(first) and _reads(iso, sample):
            return [iso]
    names = [name for name in _possible_names() if _matches(first, name)]
    formats = [TimeFormat(name, has_offset=name.endswith("%z")) for name in names]
    formats = [found for found in formats if _reads(found, sample)]
    different = {found.parse(sample).tobytes(): found for found in reversed(formats)}
    return list(different.values())[::-1]


def _find_numbers(sample: pa.Array) -> list[TimeFormat]:
    """Whole numbers: of years and dates, or else of seconds since 1970."""
    lengths = set(pc.utf8_length(sample).to_pylist())
    for name in _NUMBERS:
        if lengths == {_DIGITS[name]} and _reads(TimeFormat(name), sample):
            low, high = _YEARS.get(name, (1800, 2200) if _DIGITS[name] in (6, 8) else (1900, 2100))
            if all(low <= int(text[:4]) < high for text in sample.to_pylist()):
                return [TimeFormat(name)]
    return [TimeFormat(unit, has_offset=True) for unit, digits in _EPOCHS.items() if lengths <= set(digits)]


def _possible_names() -> Sequence[str]:
    moments = [f"{date}{gap}{clock}" for date, gap, clock in product(_DATES, " T", _CLOCKS) if clock]
    return [*_DATES, *moments, *(f"{name}{gap}%z" for name in moments for gap in ("", " "))]


def _matches(text: str, name: str) -> bool:
    try:
        datetime.strptime(text, name)
    except ValueError:
        return False
    return True


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _reads(found: TimeFormat, sample: pa.Array) -> bool:
    return bool((found.parse(sample) != NO_TIME).all())


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _microseconds(times: pd.Series) -> Int64[np.ndarray, " rows"]:
    return pd.DatetimeIndex(times).as_unit("us").asi8

"""Times as files write them: ISO 8601, other dates, years, and seconds since 1970."""

import re
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
from jaxtyping import Int64

pc: Any = pyarrow.compute  # its functions are made at import, where pyright cannot see them
_ISO = "ISO8601"
_EPOCHS = {"s": (9, 10), "ms": (12, 13), "us": (15, 16), "ns": (18, 19)}  # digits of the times since 1970 in each unit
_NUMBERS = ("%Y%m%d", "%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d%H%M%S", "%Y%m", "%Y")  # dates that look like numbers
_DIGITS = {"%Y%m%d": 8, "%Y%m%d%H": 10, "%Y%m%d%H%M": 12, "%Y%m%d%H%M%S": 14, "%Y%m": 6, "%Y": 4}
_YEARS = {"%Y": (1500, 2200)}  # plausible ones; of longer numbers fewer are, as they may be something else
_NUMERIC_DATES = ("%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%Y", "%d/%m/%y", "%m/%d/%y", "%d.%m.%y")
_NAMED_DATES = ("%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d%b%Y", "%a, %d %b %Y")
_MONTHS = ("%m/%Y", "%Y/%m", "%b-%Y", "%b %Y", "%B %Y", "%b-%y")
_DATES = (*_NUMERIC_DATES, "%Y/%m/%d", "%Y.%m.%d", *_NAMED_DATES, *_MONTHS)
_CLOCKS = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p")
_OFFSET = r"\s*(Z|[+-]\d\d(:?\d\d)?)$"
_HAS_OFFSET = r"[T:\s]\d\d(:?\d\d)*([.,]\d+)?" + _OFFSET
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
        """Reads a column as microseconds since 1970: of UTC where times have offsets, else as they stand.

        What is no such time is `NO_TIME`.
        """
        if _is_time(column.type):
            kind = pa.timestamp("us", getattr(column.type, "tz", None))
            times = column.cast(kind, safe=False).cast(pa.int64())
            return times.fill_null(NO_TIME).to_numpy(zero_copy_only=False)
        if self.name in _EPOCHS:
            return _since_1970(column, self.name)
        if not _is_text(column.type):
            column = column.cast(pa.string())
        if self.name == _ISO:
            try:  # four times as quick as pandas, which reads more
                times = column.cast(pa.timestamp("us", "UTC" if self.has_offset else None))
                return times.cast(pa.int64()).fill_null(NO_TIME).to_numpy(zero_copy_only=False)
            except pa.ArrowInvalid:
                pass
        column = _tidy(column)
        alike = pc.equal(pc.match_substring_regex(column, _HAS_OFFSET), pa.scalar(self.has_offset))
        column = pc.if_else(alike, column, None) if self.name == _ISO else column
        times = pd.to_datetime(column.to_pandas(), format=self.name, errors="coerce", utc=self.has_offset)
        return _microseconds(times)


def find_formats(sample: pa.Array, name: str | None = None) -> list[TimeFormat]:
    """Finds the formats in which most of some values are times; several where day and month may swap.

    Args:
        sample: Times of a type of their own, texts, or whole numbers; others have no format.
        name: The only format that may be; any if not given.

    >>> [found.name for found in find_formats(pa.array(["03/04/2024", "03/05/2024"]))]
    ['%d/%m/%Y', '%m/%d/%Y']
    >>> [found.name for found in find_formats(pa.array(["03/04/2024", "03/15/2024"]))]
    ['%m/%d/%Y']
    """
    sample = sample.drop_null()
    if _is_time(sample.type):
        return [TimeFormat("a type of times", has_offset=getattr(sample.type, "tz", None) is not None)]
    if not _is_text(sample.type) and not pa.types.is_integer(sample.type):
        return []
    sample = _tidy(sample.cast(pa.string())).unique()
    if not len(sample):
        return []
    parsed = [(found, found.parse(sample)) for found in _candidates(sample, name)]
    most = max((int((times != NO_TIME).sum()) for _, times in parsed), default=0)
    if 2 * most <= len(sample):
        return []
    different = {times.tobytes(): found for found, times in reversed(parsed) if (times != NO_TIME).sum() == most}
    return list(different.values())[::-1]


def _candidates(sample: pa.Array, name: str | None) -> list[TimeFormat]:
    """The formats that a look at a few texts leaves possible."""
    texts = sample[:3].to_pylist()
    if name in _EPOCHS:
        return [TimeFormat(name, has_offset=True)]
    if name not in (None, _ISO):
        return [TimeFormat(name, has_offset=name.endswith("%z"))]
    if pc.all(pc.match_substring_regex(sample, r"^-?\d+$")).as_py() and name is None:
        return _find_numbers(sample)
    if name is None and (any(map(_is_number, texts)) or not any(map(str.isdigit, "".join(texts)))):
        return []
    formats = []
    for has_offset in sorted(set(pc.match_substring_regex(sample[:3], _HAS_OFFSET).to_pylist())):
        formats.append(TimeFormat(_ISO, has_offset))
        shapes = [_shape(re.sub(_OFFSET, "", text) if has_offset else text) for text in texts if name is None]
        names = [known for shape in dict.fromkeys(shapes) for known in _names_by_shape().get(shape, [])]
        endings = ("%z", " %z") if has_offset else ("",)
        formats += [TimeFormat(known + ending, has_offset) for known in names for ending in endings]
    return formats


def _find_numbers(sample: pa.Array) -> list[TimeFormat]:
    """Whole numbers: of years and dates, or else of seconds since 1970."""
    lengths = set(pc.utf8_length(sample).to_pylist())
    for name in _NUMBERS:
        if lengths == {_DIGITS[name]} and (TimeFormat(name).parse(sample) != NO_TIME).all():
            low, high = _YEARS.get(name, (1800, 2200) if _DIGITS[name] in (6, 8) else (1900, 2100))
            if all(low <= int(text[:4]) < high for text in sample.to_pylist()):
                return [TimeFormat(name)]
    return [TimeFormat(unit, has_offset=True) for unit, digits in _EPOCHS.items() if lengths <= set(digits)]


def _since_1970(column: pa.Array, unit: str) -> Int64[np.ndarray, " rows"]:
    if _is_text(column.type):
        column = pc.utf8_trim_whitespace(column)
        column = pc.if_else(pc.match_substring_regex(column, r"^-?\d{1,18}$|^1\d{18}$"), column, None)
    numbers = column.cast(pa.int64(), safe=False)
    units = numbers.fill_null(0).to_numpy()
    times = units // 1000 if unit == "ns" else units * {"s": 10**6, "ms": 1000, "us": 1}[unit]
    return np.where(numbers.is_null().to_numpy(zero_copy_only=False), NO_TIME, times)


@cache
def _names_by_shape() -> dict[str, list[str]]:
    """All formats of dates, with a time of day and without, by what stands between words and numbers."""
    names: dict[str, list[str]] = {}
    for date, gap, clock in product(_DATES, " T", _CLOCKS):
        names.setdefault(_shape(f"{date}{gap}{clock}"), []).append(f"{date}{gap}{clock}")
    for date in _DATES:
        names.setdefault(_shape(date), []).append(date)
    return names


def _shape(text: str) -> str:
    """What stands between words and numbers: dates of one format are alike in that.

    >>> _shape("31.01.2024 13:00"), _shape("%d.%m.%Y %H:%M")
    ('w.w.w w:w', 'w.w.w w:w')
    """
    return re.sub(r"(%?\w)+", "w", text)


def _tidy(column: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(pc.utf8_trim_whitespace(column), r"\s*(UTC|GMT)$", "Z")


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _is_time(kind: pa.DataType) -> bool:
    return pa.types.is_timestamp(kind) or pa.types.is_date(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _microseconds(times: pd.Series) -> Int64[np.ndarray, " rows"]:
    return pd.DatetimeIndex(times).as_unit("us").asi8

"""Tables on the disk, CSV and Parquet: their columns, a look at their beginning, and all of their rows in blocks."""

import codecs
import csv
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

pc: Any = pyarrow.compute  # its functions are made at import, where pyright cannot see them
_MISSING = ("", "-", "?", "NA", "N/A", "n/a", "#N/A", "nan", "NaN", "null", "NULL", "None")
_SAMPLE_BYTES = 2**20
_BLOCK_BYTES = 2**22
_BLOCK_ROWS = 2**17
_NOT_UTF8 = "is not text in UTF-8: save it as CSV in UTF-8"
_DELIMITERS = "\t;,|"


class Source(ABC):
    """A table on the disk.

    Args:
        path: The file.

    Attributes:
        sample: Its first rows: each column as it lies there, in CSV as text; missing values are null.
    """

    sample: pa.Table

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def blocks(self, keys: Sequence[str], numbers: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Reads all rows in order, some at a time: of the columns `keys` as they lie there, of `numbers` as float64.

        Raises:
            ValueError: If a value in one of `numbers` is no number, or the file is damaged; one line.
        """

    @abstractmethod
    def place(self, row: int) -> str:
        """Says where a row is, counted from 0 without a header."""

    @abstractmethod
    def is_number(self, column: pa.Array) -> pa.BooleanArray:
        """Says which values of a column are numbers; null where it is missing."""


class CsvSource(Source):
    """A CSV file: commas, semicolons, tabs or bars between columns; decimal points, or commas where none separate.

    Raises:
        ValueError: If it holds no table with a header; one line.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        lines = self._first_lines()
        self._delimiter = _find_delimiter(lines)
        header, *rows = csv.reader(lines, delimiter=self._delimiter)
        self._names = [name.strip() for name in header]
        if len(rows) == 0:
            raise ValueError(f"{path}: has a header and no row of data")
        rows = [row for row in rows if len(row) == len(header)]  # reading says which are too short or too long
        texts = [[None if text.strip() in _MISSING else text for text in column] for column in zip(*rows, strict=True)]
        columns = [pa.array(column, pa.string()) for column in texts or [[]] * len(header)]
        self._decimal = "," if self._delimiter != "," and _has_decimal_comma(columns) else "."
        self.sample = pa.table(columns, names=self._names)

    def _first_lines(self) -> list[str]:
        try:
            with pa.input_stream(self.path) as stream:
                data = stream.read(_SAMPLE_BYTES)
        except OSError as error:
            raise ValueError(f"{self.path}: cannot be read: {error}") from None
        try:  # a character may be cut off at the end
            text = codecs.getincrementaldecoder("utf-8-sig")().decode(data)
        except UnicodeDecodeError:
            raise ValueError(f"{self.path}: {_NOT_UTF8}") from None
        if "\0" in text:
            raise ValueError(f"{self.path}: is not text: there must be CSV or Parquet")
        lines = [line for line in text.splitlines(keepends=True) if line.strip()]
        if len(data) == _SAMPLE_BYTES and len(lines) > 2:
            lines.pop()  # it may be cut off
        if not lines:
            raise ValueError(f"{self.path}: is empty")
        return lines

    def blocks(self, keys: Sequence[str], numbers: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Reads all rows in order; see `Source.blocks`."""
        kinds = dict.fromkeys(keys, pa.string()) | dict.fromkeys(numbers, pa.float64())
        try:
            yield from self._open(kinds)
        except pa.ArrowInvalid as error:
            self._explain(numbers, str(error))

    def _open(self, kinds: dict[str, pa.DataType]) -> pyarrow.csv.CSVStreamingReader:
        """Opens the file for the columns of these kinds."""
        missing = [f"{before}{mark}{after}" for mark in _MISSING for before in ("", " ") for after in ("", " ")]
        return pyarrow.csv.open_csv(
            pa.input_stream(self.path),
            read_options=pyarrow.csv.ReadOptions(
                block_size=_BLOCK_BYTES, use_threads=False, column_names=self._names, skip_rows_after_names=1
            ),
            parse_options=pyarrow.csv.ParseOptions(delimiter=self._delimiter),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=kinds, include_columns=list(kinds), null_values=missing, decimal_point=self._decimal
            ),
        )

    def _explain(self, numbers: Sequence[str], reason: str) -> None:
        """Finds what could not be read, and says so."""
        row = 0
        try:
            for block in self._open(dict.fromkeys(numbers, pa.string())):
                for name in numbers:
                    texts = block.column(name)
                    wrong = pc.index(pc.and_kleene(self.is_number(texts), True), False).as_py()
                    if wrong >= 0:
                        raise ValueError(
                            f"{self.path}: {self.place(row + wrong)}, column {name!r}: {texts[wrong].as_py()!r} is no "
                            "number: correct it, or leave the cell empty where a value is missing"
                        )
                row += len(block)
        except pa.ArrowInvalid as error:
            reason = str(error)
        if fields := re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", reason):
            there = f"{fields[3]} field" + "s" * (fields[3] != "1")
            raise ValueError(
                f"{self.path}: {self.place(int(fields[1]) - 2)} has {there}, but the header has {fields[2]} (with "
                f"{self._delimiter!r} between them): correct the line"
            ) from None
        if "UTF8" in reason:
            raise ValueError(f"{self.path}: {_NOT_UTF8}") from None
        raise ValueError(f"{self.path}: cannot be read as CSV: {' '.join(reason.split())}") from None

    def place(self, row: int) -> str:
        """Says the line, which blank lines and line breaks within quotes put off."""
        with pa.input_stream(self.path) as stream:
            lines = io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="")
            reader = csv.reader(lines, delimiter=self._delimiter)
            next(islice((fields for fields in reader if fields), row + 1, None), None)
            return f"line {reader.line_num}"

    def is_number(self, column: pa.Array) -> pa.BooleanArray:
        """Says which texts are numbers; null where one stands for a missing value."""
        return _are_numbers(column, self._decimal)


class ParquetSource(Source):
    """A Parquet file.

    Raises:
        ValueError: If it is damaged or holds no rows; one line.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self._file = pyarrow.parquet.ParquetFile(path)
            first = next(self._file.iter_batches(batch_size=_BLOCK_ROWS), None)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path}: is no Parquet file or damaged: {' '.join(str(error).split())}") from None
        if not first:
            raise ValueError(f"{path}: has no row of data")
        self.sample = pa.table([_plain(column) for column in first.columns], names=first.schema.names)

    def blocks(self, keys: Sequence[str], numbers: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Reads all rows in order; see `Source.blocks`."""
        names = [*keys, *numbers]
        try:
            for block in self._file.iter_batches(batch_size=_BLOCK_ROWS, columns=list(dict.fromkeys(names))):
                columns = [_plain(block.column(name)) for name in keys]
                columns += [_plain(block.column(name)).cast(pa.float64(), safe=False) for name in numbers]
                yield pa.record_batch(columns, names=names)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{self.path}: is damaged: {' '.join(str(error).split())}") from None

    def place(self, row: int) -> str:
        """Says the row, counted from 1."""
        return f"row {row + 1}"

    def is_number(self, column: pa.Array) -> pa.BooleanArray:
        """Says whether the column's type is one of numbers."""
        kind = column.type
        numeric = pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
        numeric = numeric or pa.types.is_decimal(kind)
        return pc.if_else(column.is_valid(), pa.scalar(numeric), pa.scalar(None, pa.bool_()))


def open_source(path: str | Path) -> Source:
    """Opens a table: Parquet by its first bytes, CSV otherwise.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is none that can be read; one line.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, not a CSV or Parquet file")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    return ParquetSource(path) if start == b"PAR1" or path.suffix == ".parquet" else CsvSource(path)


def _find_delimiter(lines: Sequence[str]) -> str:
    """The first that cuts each line into as many fields as the header; or else the one that cuts the header most."""
    counts: dict[str, list[int]] = {}
    for delimiter in _DELIMITERS:
        counts[delimiter] = [len(row) for row in csv.reader(lines[:100], delimiter=delimiter)]
        if counts[delimiter][0] > 1 and len(set(counts[delimiter])) == 1:
            return delimiter
    return max(_DELIMITERS, key=lambda delimiter: (counts[delimiter][0], delimiter == ","))


def _has_decimal_comma(columns: Sequence[pa.Array]) -> bool:
    def some(pattern: str) -> bool:
        return any(pc.any(pc.match_substring_regex(column, pattern)).as_py() for column in columns)

    return some(r"^\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*$") and not some(r"^\s*[+-]?\d*\.\d+([eE][+-]?\d+)?\s*$")


def _are_numbers(texts: pa.Array, decimal: str) -> pa.BooleanArray:
    point = re.escape(decimal)
    plain = rf"(\d+({point}\d*)?|{point}\d+)([eE][+-]?\d+)?"
    matches = pc.match_substring_regex(texts, rf"^\s*[+-]?({plain}|[nN][aA][nN]|[iI]nf|[iI]nfinity)\s*$")
    missing = pc.is_in(pc.utf8_trim_whitespace(texts), pa.array(_MISSING))
    return pc.if_else(missing, pa.scalar(None, pa.bool_()), matches)


def _plain(column: pa.Array) -> Any:
    """Without a dictionary; text as one kind."""
    kind: Any = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    return column.cast(pa.string()) if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) else column

"""Tables as people write them come back as the series they hold, or get one line."""

import gzip
import string

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.series import sources
from datamodules.series.layout import TableLayout
from datamodules.series.reading import read_series
from tests.datamodules.series.tables import TIMES, all_times, column, mistake, read_text, write_text

NAN = float("nan")
DIALECTS = st.tuples(
    st.sampled_from([(",", "."), (";", ","), (";", "."), ("\t", "."), ("\t", ","), ("|", ".")]),
    st.sampled_from(["%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M", "%Y-%m-%dT%H:%M:%SZ", "%d/%m/%Y %I:%M %p"]),
    st.sampled_from(["utf-8", "utf-8-sig"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "NA", "nan", "null", "-", " "]),
)
NUMBERS = st.one_of(st.just(NAN), st.floats(-1e12, 1e12, allow_nan=False), st.integers(-5, 5).map(float))


@st.composite
def tables(draw):
    """Regular series of one frequency: of several lengths and starts in a long table, of one in a wide one."""
    frequency = draw(st.sampled_from(["15min", "h", "D", "W-SAT", "MS", "ME", "QS-JAN", "YS-JAN"]))
    names = draw(st.lists(st.text(string.ascii_letters + "é_", min_size=1, max_size=5), max_size=3, unique=True))
    # A name may read as a missing value only by chance, and "nan" is one: an id all the same.
    channels = [f"channel {number}" for number in range(draw(st.integers(1, 3)))]
    parts = []
    for name in names or [""]:
        first, length = draw(st.datetimes(pd.Timestamp(1950, 1, 1), pd.Timestamp(2050, 1, 1))), draw(st.integers(9, 40))
        times = pd.date_range(pd.Timestamp(first).normalize(), periods=length, freq=frequency)
        values = draw(
            st.lists(
                st.lists(NUMBERS, min_size=len(channels), max_size=len(channels)), min_size=length, max_size=length
            )
        )
        parts.append(pd.DataFrame(values, columns=channels).assign(time=times, id=name))
    table = pd.concat(parts, ignore_index=True)
    return frequency, (table if names else table.drop(columns="id")), channels


def check(path, frequency, table, channels, utc=False, time_format=None):
    series = read_series(path, TableLayout("time", "id" if "id" in table else None, time_format=time_format))
    groups = table.groupby("id", sort=False) if "id" in table else [("", table)]
    assert series.channel_names == channels
    assert series.names == [name for name, _ in groups]
    assert series.frequency == frequency or frequency in ("QS-JAN", "YS-JAN", "W-SAT")
    for number, (_, group) in enumerate(groups):
        rows = slice(series.starts[number], series.starts[number + 1])
        assert np.array_equal(series.values[rows], group[channels], equal_nan=True)
        assert (all_times(series, number) == pd.DatetimeIndex(group.time, tz="UTC" if utc else None)).all()


@given(data=tables(), dialect=DIALECTS, bytes_a_block=st.sampled_from([256, 2**22]))
@settings(max_examples=60, deadline=None)
def test_csv_round_trip(tmp_path_factory, data, dialect, bytes_a_block):
    """In tiny blocks as well, which must be the same as the whole."""
    _, table, _ = data
    (separator, decimal), times, encoding, line_end, missing = dialect
    table = table.assign(time=table.time.dt.strftime(times))
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    table.to_csv(
        path, sep=separator, decimal=decimal, index=False, encoding=encoding, lineterminator=line_end, na_rep=missing
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "_BLOCK_BYTES", bytes_a_block)
        # day and month of a few rows may be swapped
        check(path, *data, utc=times.endswith("Z"), time_format=times if "/" in times else None)


@given(data=tables(), text=st.booleans(), categories=st.booleans(), rows_a_block=st.sampled_from([3, 2**17]))
@settings(max_examples=40, deadline=None)
def test_parquet_round_trip(tmp_path_factory, data, text, categories, rows_a_block):
    _, table, _ = data
    written = table.assign(time=table.time.astype(str)) if text else table
    if categories and "id" in table:
        written = written.assign(id=written.id.astype("category"))
    path = tmp_path_factory.mktemp("parquet") / "table.parquet"
    written.to_parquet(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "_BLOCK_ROWS", rows_a_block)
        check(path, *data)


def test_rows_of_many_series_may_lie_in_any_order(tmp_path):
    """Time by time, as data bases give them: no series is out of order."""
    text = "time,id,load\n" + "".join(f"{time},{name},{time[-1]}\n" for time in TIMES for name in "xyz")
    series = read_text(tmp_path, text)
    assert series.names == ["x", "y", "z"]
    assert series.values[:, 0].tolist() == [1, 2, 3, 4, 5, 6] * 3


def test_leap_days(tmp_path):
    times = pd.date_range("2023-12-31", "2024-12-31", freq="D")
    series = read_text(tmp_path, column(*["1"] * 367, times=times.strftime("%Y-%m-%d")))
    assert pd.Timestamp("2024-02-29") in all_times(series)
    without = times.delete(times.get_loc("2024-02-29")).strftime("%Y-%m-%d")
    assert "before line 62 (2024-03-01" in mistake(tmp_path, column(*["1"] * 366, times=without))
    assert mistake(tmp_path, column("1", "2", times=["2024-02-28", "2023-02-29"])).startswith(
        "table.csv: has no column of times"
    )


def test_a_channel_may_be_missing_altogether(tmp_path):
    series = read_text(tmp_path, "time,a,b\n2024-01-01,,1\n2024-01-02,NA,2\n")
    assert np.isnan(series.values[:, 0]).all()
    assert series.values[:, 1].tolist() == [1, 2]


def test_one_row_needs_a_frequency(tmp_path):
    assert "no series has two times, so that no step of time can be seen" in mistake(tmp_path, column("1"))
    assert len(read_text(tmp_path, column("1"), frequency="D").values) == 1


def test_a_compressed_table(tmp_path):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(column("1", "2").encode()))
    assert read_series(path).values[:, 0].tolist() == [1, 2]


def test_an_index_of_times_in_parquet(tmp_path):
    path = tmp_path / "table.parquet"
    pd.DataFrame({"load": [1, 2]}, index=pd.date_range("2024-01-01", periods=2, tz="Asia/Tokyo")).to_parquet(path)
    series = read_series(path, TableLayout(timezone="Asia/Tokyo"))
    assert (series.frequency, str(series.first[0])) == ("D", "2024-01-01 00:00:00+09:00")


DAMAGED = [
    ("", "is empty"),
    ("\n \n", "is empty"),
    ("time,load\n", "has a header and no row of data"),
    ("time,load", "has a header and no row of data"),
    (column("1", "x1", "3"), "line 3, column 'load': 'x1' is no number: correct it, or leave the cell empty"),
    (column("1", "2", "3") + "\n2024-01-04,1.234.5\n", "line 6, column 'load': '1.234.5' is no number"),
    (column("1", "2,3"), "line 3 has 3 fields, but the header has 2 (with ',' between them): correct the line"),
    ("time,load\n2024-01-01,1\n2024-01-02\n", "line 3 has 1 field, but the header has 2"),
    (column("1", "inf"), "line 3, column 'load': the value is infinite: write a finite number"),
    (column("1", "1e999"), "line 3, column 'load': the value is infinite"),
    (
        column("1", "2", "3", times=[TIMES[0], "soon", TIMES[2]]),
        "line 3, column 'time': 'soon' is no time as the first",
    ),
    (column("1", "2", "3", times=[TIMES[0], "", TIMES[2]]), "line 3, column 'time': there is no time"),
    ("id,time,load\na,2024-01-01,1\n,2024-01-01,1\n", "line 3, column 'id': there is no id"),
    ("time;load\n2024-01-01;1,5\n2024-01-02;1.5\n", "line 2, column 'load': '1,5' is no number"),
    ("\0\0\0", "is not text: there must be CSV or Parquet"),
]


@pytest.mark.parametrize(("text", "line"), DAMAGED)
def test_damage_gets_one_line(tmp_path, text, line):
    assert mistake(tmp_path, text).startswith(f"table.csv: {line}")


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_other_encodings_get_one_line(tmp_path, encoding):
    path = write_text(tmp_path, column("1", "2", header="time,größe"), encoding)
    with pytest.raises(ValueError, match=r"table.csv: is not text in UTF-8: save it as CSV in UTF-8"):
        read_series(path)


def test_damage_beyond_the_first_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_SAMPLE_BYTES", 64)
    monkeypatch.setattr(sources, "_BLOCK_BYTES", 64)
    times = pd.date_range("2024-01-01", periods=50, freq="D").strftime("%Y-%m-%d").tolist()
    values = ["1"] * 50
    assert len(read_text(tmp_path, column(*values, times=times)).values) == 50
    values[40] = "é"
    assert mistake(tmp_path, column(*values, times=times)).startswith("table.csv: line 42, column 'load': 'é' is no")
    path = write_text(tmp_path, column(*values, times=times), "latin-1")
    with pytest.raises(ValueError, match="is not text in UTF-8"):
        read_series(path)
    values[40] = "1,2"
    assert mistake(tmp_path, column(*values, times=times)).startswith("table.csv: line 42 has 3 fields")
    values[40], times[30] = "1", "never"
    assert mistake(tmp_path, column(*values, times=times)).startswith(
        "table.csv: line 32, column 'time': 'never' is no"
    )


def test_a_line_that_the_look_at_the_beginning_cuts_off(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_SAMPLE_BYTES", 64)
    text = "load,year\n" + "".join(f"1,{year}\n" for year in range(1990, 2020))
    assert len(read_text(tmp_path, text).values) == 30


def test_damaged_parquet(tmp_path):
    path = tmp_path / "table.parquet"
    path.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(ValueError, match=r"table.parquet: is no Parquet file or damaged"):
        read_series(path)
    pd.DataFrame({"time": TIMES, "load": range(6)}).to_parquet(path, compression=None)
    whole = path.read_bytes()
    path.write_bytes(whole[:20] + b"\xff" * 60 + whole[80:])
    with pytest.raises(ValueError, match=r"table.parquet: is (no Parquet file or )?damaged"):
        read_series(path)
    pyarrow.parquet.write_table(pa.table({"time": pa.array([], pa.string()), "load": pa.array([], pa.float64())}), path)
    with pytest.raises(ValueError, match=r"table.parquet: has no row of data"):
        read_series(path)


def test_rows_of_parquet_are_counted_from_one(tmp_path):
    path = tmp_path / "table.parquet"
    pd.DataFrame({"time": pd.to_datetime(TIMES), "load": [1, 2, np.inf, 4, 5, 6]}).to_parquet(path)
    with pytest.raises(ValueError, match="row 3, column 'load': the value is infinite"):
        read_series(path)


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing.csv: there is no such file"):
        read_series(tmp_path / "nothing.csv")
    with pytest.raises(ValueError, match="is a folder, not a CSV or Parquet file"):
        read_series(tmp_path)


def read_or_refuse(path):
    try:
        read_series(path, fill="ffill")
    except ValueError as error:
        line = str(error)
    else:
        line = "it was read"
    assert "\n" not in line


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_anything_is_read_or_gets_one_line(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("bytes") / "table.csv"
    path.write_bytes(data)
    read_or_refuse(path)


@given(
    st.lists(
        st.lists(
            st.sampled_from(["2024-01-01", "01/02/2024", "1", "x", "", "1,5", "-", "NA", '"', "1e400", "7.5"]),
            min_size=1,
            max_size=4,
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(",;"),
)
@settings(max_examples=200, deadline=None)
def test_any_cells_are_read_or_get_one_line(tmp_path_factory, rows, separator):
    path = tmp_path_factory.mktemp("cells") / "table.csv"
    path.write_text("time,a,b\n".replace(",", separator) + "\n".join(separator.join(row) for row in rows) + "\n")
    read_or_refuse(path)

"""Which column is what: as it looks, as it is said, and one line where neither is clear."""

from dataclasses import asdict

import pandas as pd
import pytest
from jsonargparse import ArgumentParser

from datamodules.series.layout import TableLayout
from datamodules.series.reading import find_layout, read_series
from tests.datamodules.series.tables import column, mistake, read_text, write_text

LONG = "shop,day,sold,price,note\n" + "".join(
    f"{shop},2024-01-0{day},{day},{day / 2},{note}\n" for shop, note in (("a", "x"), ("b", "y")) for day in (1, 2, 3)
)
ROLES = {"id_column": "shop", "value_columns": ["sold"], "covariate_columns": ["price"]}


def test_a_wide_table(tmp_path):
    series = read_text(tmp_path, "a,when,b\n1,2024-01-01,2\n3,2024-01-02,4\n")
    assert (series.names, series.channel_names, series.covariate_names) == ([""], ["a", "b"], [])
    assert series.values.tolist() == [[1, 2], [3, 4]]
    assert series.covariates.shape == (2, 0)
    assert series.starts.tolist() == [0, 2]


def test_a_long_table(tmp_path):
    series = read_text(tmp_path, LONG, **ROLES)
    assert (series.names, series.channel_names, series.covariate_names) == (["a", "b"], ["sold"], ["price"])
    assert series.values[:, 0].tolist() == [1, 2, 3, 1, 2, 3]
    assert series.covariates[:, 0].tolist() == [0.5, 1, 1.5, 0.5, 1, 1.5]


def test_an_id_of_numbers_is_said(tmp_path):
    text = "store,time,load\n" + "".join(f"{store},2024-01-0{day},{day}\n" for store in (7, 8) for day in (1, 2))
    assert "line 4 (2024-01-01 00:00:00) is earlier than line 3" in mistake(tmp_path, text)
    assert read_text(tmp_path, text, id_column="store").names == ["7", "8"]


def test_an_id_may_look_like_a_missing_value(tmp_path):
    text = "country,time,load\n" + "".join(f"{name},2024-01-0{day},{day}\n" for name in ("NA", "SA") for day in (1, 2))
    assert read_text(tmp_path, text).names == ["NA", "SA"]


def test_a_wide_table_with_a_remark(tmp_path):
    text = "time,load,remark\n2024-01-01,1,fine\n2024-01-02,2,cold\n"
    assert read_text(tmp_path, text, id_column="", value_columns=["load"]).values[:, 0].tolist() == [1, 2]


@pytest.mark.parametrize("first", [0, 1])
def test_an_index_of_pandas_is_no_channel(tmp_path, first):
    text = f",time,load\n{first},2024-01-01,5\n{first + 1},2024-01-02,6\n"
    assert read_text(tmp_path, text).channel_names == ["load"]
    assert read_text(tmp_path, column("1", "2", header=",load")).channel_names == ["load"]
    assert read_text(tmp_path, column("1,", "2,", header="time,load,")).channel_names == ["load"]


def test_years_and_seconds(tmp_path):
    assert read_text(tmp_path, column("5", "6", times=["1990", "1991"], header="year,load")).frequency == "YS-JAN"
    series = read_text(tmp_path, column("5", "6", times=["1706706000", "1706709600"]))
    assert str(series.first[0]) == "2024-01-31 13:00:00+00:00"
    assert series.frequency == "h"


def test_dates_come_before_numbers(tmp_path):
    text = "price,date\n1800,2024-01-01\n1801,2024-01-02\n"
    assert read_text(tmp_path, text).channel_names == ["price"]


def test_layouts_are_plain_values_and_flags():
    layout = TableLayout(**ROLES, frequency="D")
    assert TableLayout(**asdict(layout)) == layout
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--layout", type=TableLayout, default=TableLayout())
    flags = ["--layout.id_column=shop", '--layout.value_columns=["sold"]', "--layout.covariate_columns+=price"]
    parsed = parser.instantiate_classes(parser.parse_args([*flags, "--layout.frequency=D"]))
    assert parsed.layout == layout


def test_a_found_layout_reads_another_table_alike(tmp_path):
    other = tmp_path / "other.csv"
    other.write_text(LONG.replace("note", "remark").replace("a,2024", "c,2024"))
    found = find_layout(write_text(tmp_path, LONG), TableLayout(**ROLES))
    assert found == TableLayout("day", "shop", ["sold"], ["price"])
    assert read_series(other, found).names == ["c", "b"]
    wide = find_layout(write_text(tmp_path, column("1", "2")))
    assert wide == TableLayout("time", "", ["load"], [])


def test_a_found_layout_keeps_what_is_day_and_month(tmp_path):
    path = write_text(tmp_path, column("1", "2", times=["30/01/2024", "31/01/2024"]))
    found = find_layout(path)
    assert found.time_format == "%d/%m/%Y"
    path = write_text(tmp_path, column("1", "2", times=["01/02/2024", "02/02/2024"]))
    assert read_series(path, found).first[0] == pd.Timestamp("2024-02-01")


UNCLEAR = [
    (column("1", "2"), {"time_column": "tiem"}, "has no column 'tiem'; did you mean 'time'?"),
    (column("1", "2"), {"value_columns": ["demand"]}, "has no column 'demand'; there are 'time', 'load'"),
    (column("1", "2"), {"time_column": "load"}, "column 'load' holds no times ('1' is none of dates such as"),
    (column("1", "2"), {"time_format": "%d.%m.%Y"}, "has no column of times (--data.layout.time_format=%d.%m.%Y)"),
    (column("1", "2"), {"covariate_columns": ["load"]}, "has no column of numbers to forecast"),
    ("a,b\n1,2\n3,4\n", {}, "has no column of times (dates such as 2024-01-31 13:00"),
    ("time\n2024-01-01\n", {}, "has one column, 'time': there must be one of times and one of values"),
    ("2024-01-01,1\n2024-01-02,2\n", {}, "has no header: put a line of column names before the data"),
    ("time,a,a\n2024-01-01,1,2\n", {}, "has several columns 'a': give each a name of its own"),
    ("time,a,\n2024-01-01,1,5\n", {}, "column 3 has no name"),
    ("time,a,b\n2024-01-01,1,2024-01-01\n", {}, "column 'b' holds no numbers ('2024-01-01'): name what to forecast"),
    (LONG, {}, "the columns 'shop', 'note' hold text: name the one that tells series apart by --data.layout.id_column"),
    (
        column("1", "2", times=["01/02/2024", "01/03/2024"]),
        {},
        "column 'time': '01/02/2024' may be read in several ways, and no other time there decides: say "
        "--data.layout.time_format=%d/%m/%Y or %m/%d/%Y",
    ),
]


@pytest.mark.parametrize(("text", "layout", "line"), UNCLEAR)
def test_what_is_not_clear_gets_one_line(tmp_path, text, layout, line):
    assert mistake(tmp_path, text, **layout).startswith(f"table.csv: {line}")


def test_wrong_layouts(tmp_path):
    assert "names the column 'load' twice" in mistake(
        tmp_path, column("1"), value_columns=["load"], covariate_columns=["load"]
    )
    with pytest.raises(ValueError, match="timezone=Europe/Londn is unknown"):
        TableLayout(timezone="Europe/Londn")
    with pytest.raises(ValueError, match="frequency=hourly is no step of time"):
        TableLayout(frequency="hourly")
    with pytest.raises(ValueError, match=r"value_columns=\[\] names no column"):
        TableLayout(value_columns=[])

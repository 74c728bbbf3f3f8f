import numpy as np
import pandas as pd
import pytest

from datamodules import SeriesFile
from datamodules.series.layout import TableLayout
from tests.datamodules.series.sets import noise, windows_of

SIZES = {"context_length": 6, "prediction_length": 3, "batch_size": 4}


def write_wide(file, values, *, step="h", **columns):
    times = pd.date_range("2024-01-01", periods=len(values), freq=step)
    table = pd.DataFrame(values, columns=[f"c{number}" for number in range(values.shape[1])])
    pd.DataFrame({"time": times, **table, **columns}).to_csv(file, index=False)
    return str(file)


def write_long(file, series, *, step="h"):
    parts = [
        pd.DataFrame({"id": name, "time": pd.date_range("2024-01-01", periods=len(values), freq=step), "value": values})
        for name, values in series.items()
    ]
    pd.concat(parts, ignore_index=True).to_parquet(file)
    return str(file)


def test_a_wide_file(tmp_path):
    values = noise(100, 2).round(3)
    data = SeriesFile(file=write_wide(tmp_path / "own.csv", values), **SIZES)
    assert (data.channel_names, data.frequency) == (["c0", "c1"], "h")
    assert [len(data.windows(split)) for split in ("train", "val", "test")] == [62, 8, 18]
    np.testing.assert_allclose(data.mean, values[:70].mean(axis=0))
    batch = windows_of(data.test_dataloader())
    np.testing.assert_allclose(batch["future"][0] * data.std + data.mean, values[80:83], rtol=1e-5)


def test_a_long_file_has_parts_in_each_series(tmp_path):
    file = write_long(tmp_path / "own.parquet", {"a": noise(100), "b": 10 * noise(40)})
    data = SeriesFile(file=file, val_share=0.25, test_share=0.25, **SIZES)
    assert data.channel_names == ["value"]
    assert [len(data.windows(split)) for split in ("train", "val", "test")] == [42 + 12, 23 + 8, 23 + 8]
    batch = windows_of(data.val_dataloader())
    assert [batch["origin"][batch["series"] == series].min() for series in (0, 1)] == [50, 20]


def test_the_facts_layout_names_the_columns(tmp_path):
    file = write_wide(tmp_path / "own.csv", noise(100, 2), tariff=noise(100))
    data = SeriesFile(file=file, layout=TableLayout(covariate_columns=["tariff"]), fill="mask", **SIZES)
    assert data.covariate_names == ["tariff"]
    assert {name: value for name, value in data.layout.items() if value is not None} == {
        "time_column": "time",
        "id_column": "",
        "value_columns": ["c0", "c1"],
        "covariate_columns": ["tariff"],
        "fill": "mask",
    }


def test_missing_rows_are_filled_as_is_said(tmp_path):
    file = tmp_path / "own.csv"
    lines = (tmp_path / write_wide(file, noise(100, 2))).read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:20] + lines[23:]))
    with pytest.raises(ValueError, match=r"own\.csv: .*--data\.fill=ffill\|interpolate\|mask"):
        SeriesFile(file=str(file), **SIZES).setup("fit")
    data = SeriesFile(file=str(file), fill="mask", **SIZES)
    assert data.windows("train").series.starts.tolist() == [0, 100]
    assert np.isnan(data.windows("train").series.values[19:22]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"val_share": 1.0}, r"val_share=1\.0 must be in \[0, 1\)"),
        ({"test_share": -0.1}, r"test_share=-0\.1 must be in \[0, 1\)"),
        ({"val_share": 0.5, "test_share": 0.5}, "val_share=0.5 and test_share=0.5 leave nothing to train"),
    ],
)
def test_bad_shares_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SeriesFile(file="own.csv", **arguments)


@pytest.mark.parametrize(("share", "stage", "split"), [("val_share", "fit", "val"), ("test_share", "test", "test")])
def test_a_part_without_rows_is_refused_when_it_is_needed(tmp_path, share, stage, split):
    data = SeriesFile(file=write_wide(tmp_path / "own.csv", noise(100, 2)), **{share: 0.0}, **SIZES)
    with pytest.raises(ValueError, match=rf"own\.csv: prediction_length=3 exceeds the 0 rows of the {split} part"):
        data.setup(stage)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        SeriesFile(file=str(tmp_path / "none.csv")).setup("fit")

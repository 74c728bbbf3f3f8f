import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

from datamodules import ETT
from tests.datamodules.series.sets import windows_of

COLUMNS = ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]


@pytest.fixture(scope="module")
def ett() -> Path:
    """The folder that contains the real ETTh1."""
    root = Path(os.environ.get("ONECORE_DATA", "data")).absolute()
    if not (root / "ETT-small" / "ETTh1.csv").is_file():
        pytest.skip(f"ETT-small/ETTh1.csv is not in {root} ($ONECORE_DATA)")
    return root


def write(file, rows, step):
    file.parent.mkdir(parents=True, exist_ok=True)
    times = pd.date_range("2016-07-01", periods=rows, freq=step)
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(rows, 7)).round(3), columns=COLUMNS)
    table.insert(0, "date", times)
    table.to_csv(file, index=False)


@pytest.mark.parametrize("horizon", [96, 720])
def test_published_parts(ett, horizon):
    data = ETT(root=str(ett), context_length=336, prediction_length=horizon, batch_size=512)
    numbers = [len(data.windows(split)) for split in ("train", "val", "test")]
    assert numbers == [8640 - 336 - horizon + 1, 2880 - horizon + 1, 2880 - horizon + 1]


def test_every_value_is_the_files_as_sklearn_scales_it(ett):
    table = pd.read_csv(ett / "ETT-small" / "ETTh1.csv")
    scaler = StandardScaler().fit(table[COLUMNS].to_numpy()[:8640])
    scaled = scaler.transform(table[COLUMNS].to_numpy())
    data = ETT(root=str(ett), context_length=336, prediction_length=96, batch_size=512)
    assert data.channel_names == COLUMNS
    assert (data.frequency, data.season_length) == ("h", 24)
    np.testing.assert_allclose(data.mean, scaler.mean_, rtol=1e-12)
    np.testing.assert_allclose(data.std, scaler.scale_, rtol=1e-12)
    batch = windows_of(data.test_dataloader())
    for window in (0, 1000, 2784):
        origin = 11520 + window
        assert batch["origin"][window] == origin
        np.testing.assert_allclose(batch["past"][window], scaled[origin - 336 : origin], atol=1e-6)
        np.testing.assert_allclose(batch["future"][window], scaled[origin : origin + 96], atol=1e-6)
        np.testing.assert_allclose(batch["naive"][window], np.tile(scaled[origin - 24 : origin], (4, 1)), atol=1e-6)
    assert not batch["naive_mask"].any()


def test_quarter_hours_have_four_times_as_many(tmp_path):
    write(tmp_path / "ETTm2.csv", 57_600, "15min")
    data = ETT(name="ETTm2", root=str(tmp_path), context_length=336, prediction_length=96)
    numbers = [len(data.windows(split)) for split in ("train", "val", "test")]
    assert numbers == [34_560 - 336 - 96 + 1, 11_520 - 96 + 1, 11_520 - 96 + 1]
    assert data.season_length == 96


def test_a_missing_file_says_where_it_comes_from(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ETT-small/ETTh2\.csv: no such file.*zhouhaoyi/ETDataset"):
        ETT(name="ETTh2", root=str(tmp_path)).setup("fit")


def test_a_file_that_is_cut_is_refused(tmp_path):
    write(tmp_path / "ETT-small" / "ETTh1.csv", 14_000, "h")
    with pytest.raises(ValueError, match="ETTh1: the file has 14000 rows, but 20 months need 14400"):
        ETT(root=str(tmp_path)).setup("fit")

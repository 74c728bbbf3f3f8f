import builtins
import importlib.util

import numpy as np
import pandas as pd
import pytest

from datamodules import ElectricityDemand, MaunaLoaCO2
from datamodules.series.co2 import read_co2
from datamodules.series.demand import read_demand
from tests.datamodules.series.sets import windows_of


def test_demand_is_pmdarimas():
    from pmdarima.datasets import load_taylor

    np.testing.assert_array_equal(read_demand(), load_taylor())


def test_demand():
    data = ElectricityDemand(batch_size=512)
    week = 336
    assert [len(data.windows(split)) for split in ("train", "val", "test")] == [
        8 * week - week - 48 + 1,
        2 * week - 48 + 1,
        2 * week - 48 + 1,
    ]
    assert (data.frequency, data.season_length, data.channel_names) == ("30min", week, ["demand"])
    demand = read_demand()
    assert len(demand) == 4032
    batch = windows_of(data.test_dataloader())
    naive = batch["naive"] * batch["std"][:, None] + batch["mean"][:, None]
    np.testing.assert_allclose(naive[0, :, 0], demand[9 * week : 9 * week + 48], rtol=1e-5)
    assert data.windows("test").series.times(0, 10 * week, 1)[0] == pd.Timestamp("2000-08-14")


def test_co2_is_statsmodels():
    from statsmodels.datasets import co2

    theirs = co2.load_pandas().data
    np.testing.assert_array_equal(read_co2()["co2"], theirs["co2"])
    series = MaunaLoaCO2()._read()
    assert series.times(0, 0, 2284).tolist() == theirs.index.tolist()


def test_co2():
    data = MaunaLoaCO2(batch_size=2000)
    assert [len(data.windows(split)) for split in ("train", "val", "test")] == [
        1504 - 104 - 26 + 1,
        260 - 26 + 1,
        520 - 26 + 1,
    ]
    assert (data.frequency, data.season_length, data.num_channels) == ("W-SAT", 52, 1)
    values = read_co2()["co2"].to_numpy()
    assert np.isnan(values).sum() == 59
    batch = next(iter(MaunaLoaCO2(batch_size=1375).train_dataloader()))
    assert batch["future_mask"].any()
    assert (batch["future"][batch["future_mask"]] == 0).all()
    assert data.mean == [pytest.approx(np.nanmean(values[:1504]), rel=1e-12)]


@pytest.mark.parametrize(("data", "package"), [(ElectricityDemand, "pmdarima"), (MaunaLoaCO2, "statsmodels")])
def test_a_missing_package_is_named(data, package, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(FileNotFoundError, match=f"pip install {package}"):
        data().setup("fit")


def test_heavy_packages_are_not_imported(monkeypatch):
    original = builtins.__import__

    def watch(name, *args, **more):
        assert name.split(".")[0] not in {"pmdarima", "statsmodels", "sklearn"}
        return original(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", watch)
    assert (ElectricityDemand().num_channels, MaunaLoaCO2().num_channels) == (1, 1)

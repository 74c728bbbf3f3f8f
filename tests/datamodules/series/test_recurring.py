import numpy as np
import pytest

from datamodules import RecurringShapes
from datamodules.series.recurring import draw_shapes
from tests.datamodules.series.sets import windows_of


def make(**arguments):
    lengths = {"period": 90, "num_series": 20, "context_length": 200, "prediction_length": 12}
    return RecurringShapes(batch_size=64, **{**lengths, **arguments})


def test_what_is_to_come_stands_a_period_back():
    batch = windows_of(make(noise=0.0).test_dataloader())
    np.testing.assert_allclose(batch["future"], batch["past"][:, -90:-78], atol=1e-5)
    np.testing.assert_allclose(batch["future"], batch["past"][:, -180:-168], atol=1e-5)


def test_a_window_of_each_series_to_validate_and_one_to_test():
    data = make()
    assert [len(data.windows(split)) for split in ("train", "val", "test")] == [20 * (4 * 90 - 200 - 12 + 1), 20, 20]
    val, test = windows_of(data.val_dataloader()), windows_of(data.test_dataloader())
    np.testing.assert_array_equal(test["past"][:, -12:], val["future"])
    assert (data.frequency, data.season_length, data.num_channels) == ("h", 24, 1)


def error(data):
    """Mean squared error of seasonal-naive, the deviation of a shape being 1."""
    batch = windows_of(data.test_dataloader())
    return float((((batch["future"] - batch["naive"]) * batch["std"][:, None]) ** 2).mean())


def test_baselines_are_as_the_docstring_says():
    lengths = {"period": 1_800, "num_series": 300, "context_length": 2_000, "prediction_length": 24}
    assert error(make(**lengths, noise=0.3, season_length=1_800)) == pytest.approx(2 * 0.3**2, rel=0.05)
    assert error(make(**lengths, noise=0.3, season_length=48)) == pytest.approx(2 + 2 * 0.3**2, rel=0.15)


def test_shapes():
    shapes = draw_shapes(np.random.default_rng(0), 100, 4_000)
    np.testing.assert_allclose(shapes.mean(1), 0, atol=1e-12)
    np.testing.assert_allclose(shapes.std(1), 1)
    ends = np.abs(shapes[:, 0] - shapes[:, -1]).mean()
    assert ends == pytest.approx(np.abs(np.diff(shapes)).mean(), rel=0.2), "closed: no jump where it recurs"
    for lag in (12, 24, 48):  # a Gaussian of deviation 12 with itself is one of 12 * sqrt(2)
        correlation = (shapes * np.roll(shapes, lag, axis=1)).mean()
        assert correlation == pytest.approx(np.exp(-((lag / 24) ** 2)), abs=0.03)


def test_always_the_same_whatever_the_seed():
    first, second = (windows_of(make(seed=seed).test_dataloader()) for seed in (0, 1))
    np.testing.assert_array_equal(first["future"], second["future"])


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"period": 0}, r"period=0 must be at least 1"),
        ({"num_series": 0}, r"num_series=0 must be at least 1"),
        ({"noise": -0.1}, r"noise=-0\.1 must not be negative"),
    ],
)
def test_what_is_wrong(argument, message):
    with pytest.raises(ValueError, match=message):
        make(**argument)

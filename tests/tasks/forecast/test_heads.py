"""Heads: quantiles that cannot cross, losses against scipy's and sklearn's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import mean_pinball_loss
from torch import nn

from tasks.forecast.heads import DECILES, PointHead, QuantileHead, StudentTHead, pinball_loss

LOC, SCALE = (torch.tensor([[row]]).repeat(4, 1, 1) for row in ([1.0, -2.0], [3.0, 0.5]))


def outputs(number, *, spread=3.0, seed=0):
    return spread * torch.randn(4, 5, 2, number, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0.01, 0.99), min_size=1, max_size=12, unique=True).map(sorted),
    st.integers(0, 1000),
    st.floats(0, 1e3),
)
def test_quantiles_never_cross(levels, seed, spread):
    head = QuantileHead(levels)
    forecast = head(outputs(head.num_outputs, spread=spread, seed=seed), LOC, SCALE)
    assert forecast.quantiles.shape == (4, 5, 2, len(levels))
    assert (forecast.quantiles.diff(dim=-1) >= 0).all()
    assert forecast.levels == tuple(levels)


def test_the_middle_quantile_is_the_point():
    forecast = QuantileHead()(outputs(9), LOC, SCALE)
    torch.testing.assert_close(forecast.point, outputs(9)[..., 4] * SCALE + LOC)
    assert torch.equal(forecast.point, forecast.quantiles[..., 4])


def test_pinball_loss_is_sklearns():
    forecast, future = QuantileHead()(outputs(9), LOC, SCALE), outputs(1, seed=1)[..., 0]
    expected = [
        mean_pinball_loss(future.flatten(), forecast.quantiles[..., number].flatten(), alpha=level)
        for number, level in enumerate(DECILES)
    ]
    assert forecast.loss(future).mean().item() == pytest.approx(np.mean(expected), rel=1e-5)
    each = pinball_loss(forecast.quantiles, future, DECILES).mean((0, 1, 2))
    np.testing.assert_allclose(each, expected, rtol=1e-5)


def test_student_t_is_scipys():
    raw, future = outputs(3), outputs(1, seed=1)[..., 0]
    forecast = StudentTHead([0.05, 0.5, 0.9])(raw, LOC, SCALE)
    df, scale = forecast.df.double().numpy(), forecast.scale.double().numpy()
    assert (df > 2).all()
    theirs = stats.t(df, forecast.point.double().numpy(), scale)
    np.testing.assert_allclose(forecast.loss(future), -theirs.logpdf(future.numpy()), rtol=1e-4, atol=1e-4)
    for number, level in enumerate(forecast.levels):
        np.testing.assert_allclose(forecast.quantiles[..., number], theirs.ppf(level), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("loss", "expected"), [(nn.MSELoss, 4.0), (nn.L1Loss, 2.0), (nn.SmoothL1Loss, 1.5)])
def test_the_points_loss_is_the_one_asked_for(loss, expected):
    forecast = PointHead(loss)(torch.zeros(4, 1, 2, 1), LOC, SCALE)
    assert forecast.quantiles is None
    assert forecast.loss(LOC + 2).unique().tolist() == [expected]


@pytest.mark.parametrize("head", [PointHead(), QuantileHead(), StudentTHead()])
def test_without_scale_all_is_the_level(head):
    """A constant history: no interval, a finite loss."""
    forecast = head(outputs(head.num_outputs), LOC, torch.zeros_like(SCALE))
    torch.testing.assert_close(forecast.point, LOC.expand(4, 5, 2))
    if forecast.quantiles is not None:
        torch.testing.assert_close(forecast.quantiles, LOC[..., None].expand(4, 5, 2, 9))
    assert forecast.loss(LOC.expand(4, 5, 2) + 1).isfinite().all()


@pytest.mark.parametrize("levels", [[], [0.5, 0.1], [0.1, 0.1], [0.0, 0.5], [0.5, 1.0]])
@pytest.mark.parametrize("head", [QuantileHead, StudentTHead])
def test_levels_that_cannot_be_are_refused(head, levels):
    with pytest.raises(ValueError, match="levels="):
        head(levels)

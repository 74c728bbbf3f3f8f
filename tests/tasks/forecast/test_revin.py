"""RevIN: round trip, masks, constants; against the published formula by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.forecast.revin import RevIN


def history(batch=3, steps=40, channels=2, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 5 * torch.randn(batch, steps, channels, generator=generator) + 20


@pytest.mark.parametrize("affine", [False, True])
def test_round_trip(affine):
    norm, past = RevIN(2, affine=affine), history()
    if affine:
        with torch.no_grad():
            norm.log_weight.copy_(torch.tensor([0.3, -0.5]))
            norm.bias.copy_(torch.tensor([2.0, -1.0]))
    x, loc, scale = norm(past)
    torch.testing.assert_close(x * scale + loc, past, rtol=1e-5, atol=1e-4)


def test_it_is_mean_and_deviation():
    past = history()
    x, loc, scale = RevIN(2, eps=1e-5)(past)
    torch.testing.assert_close(loc, past.mean(1, keepdim=True))
    torch.testing.assert_close(scale, (past.var(1, keepdim=True, correction=0) + 1e-5).sqrt())
    torch.testing.assert_close(x.mean(1), torch.zeros(3, 2), rtol=0, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1), st.booleans())
def test_missing_values_change_nothing_and_the_rest_is_as_if_alone(seed, share, affine):
    past = history(1, 12, 2, seed=seed)
    mask = torch.rand(past.shape, generator=torch.Generator().manual_seed(seed)) < share
    norm = RevIN(2, affine=affine)
    results = [norm(past.masked_fill(mask, value), mask) for value in (0.0, torch.nan, torch.inf, 1e30)]
    for others in results[1:]:
        assert all(torch.equal(mine, other) for mine, other in zip(results[0], others, strict=True))
    x, loc, scale = results[0]
    assert x.isfinite().all()
    assert not x[mask].any()
    for channel in range(2):
        known = past[0, ~mask[0, :, channel], channel]
        if len(known) > 1:
            torch.testing.assert_close(loc[0, 0, channel], known.mean())
            torch.testing.assert_close(
                scale[0, 0, channel], (known.var(correction=0) + 1e-5).sqrt(), rtol=1e-4, atol=1e-4
            )


@pytest.mark.parametrize("level", [0.0, 1.0, -3.7, 1e6, 1e-3])
def test_a_constant_history_has_no_scale(level):
    x, loc, scale = RevIN(1)(torch.full((2, 30, 1), level))
    assert not x.any()
    assert not scale.any()
    torch.testing.assert_close(loc, torch.full((2, 1, 1), level))


def test_nothing_observed_is_zero():
    x, loc, scale = RevIN(1)(torch.full((1, 5, 1), torch.nan), torch.ones(1, 5, 1, dtype=torch.bool))
    assert not x.any()
    assert not loc.any()
    assert not scale.any()

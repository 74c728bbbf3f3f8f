"""The forecaster in all its forms: a masked value never influences anything, and each form learns."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core import Decoder, Encoder
from tasks.forecast.heads import PointHead, QuantileHead, StudentTHead, mean_loss
from tasks.forecast.model import Forecaster
from tasks.forecast.tokens import ChannelTokens, PatchTokens, SeriesShape, StepTokens
from tests.core.helpers import ATTENTIONS

CONTEXT, HORIZON, CHANNELS = 30, 7, 3
TOKENS = {
    "patches": partial(PatchTokens, patch_length=8, stride=4),
    "padded": partial(PatchTokens, patch_length=8, stride=4, padding=4),
    "apart": partial(PatchTokens, patch_length=4, stride=6),
    "channels": ChannelTokens,
    "steps": StepTokens,
}
FORMS = [
    (tokens, decoded, covariates)
    for tokens in TOKENS
    for decoded in (False, True)
    for covariates in (0, 2)
    if not (decoded and tokens == "channels")
]


def forecaster(tokens="patches", decoded=False, covariates=0, *, head=None, **encoder):
    torch.manual_seed(0)
    return Forecaster(
        Encoder(16, 2, 2, 24, **encoder),
        context_length=CONTEXT,
        prediction_length=HORIZON,
        num_channels=CHANNELS,
        num_covariates=covariates,
        decoder=Decoder(16, 2, 1, 24) if decoded else None,
        tokens=TOKENS[tokens],
        head=head,
    )


def inputs(covariates=0, *, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    past = torch.randn(batch, CONTEXT, CHANNELS, generator=generator).cumsum(1)
    known = torch.randn(batch, CONTEXT + HORIZON, covariates, generator=generator) if covariates else None
    return past, known


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("head", [PointHead(), QuantileHead([0.1, 0.5, 0.9]), StudentTHead([0.1, 0.9])], ids=repr)
def test_every_form_forecasts_and_every_parameter_learns(form, head):
    model = forecaster(*form, head=head)
    past, known = inputs(form[2])
    forecast = model(past, None, known)
    assert forecast.point.shape == (2, HORIZON, CHANNELS)
    loss = forecast.loss(torch.randn(2, HORIZON, CHANNELS)).mean()
    loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_masked_value_never_influences_anything(form):
    """Neither a forecast nor a gradient, whatever stands there; and no gradient reaches it."""
    model, (past, known) = forecaster(*form), inputs(form[2])
    mask = torch.zeros_like(past, dtype=torch.bool)
    mask[0, :, 1] = True  # a channel that is missing altogether
    mask[1, 3:20] = True  # whole patches of all channels
    mask[1, 25, 0] = True
    results = []
    for value in (0.0, torch.nan, torch.inf, -1e30):
        model.zero_grad()
        given = past.masked_fill(mask, value).requires_grad_()
        future_mask = torch.zeros(2, HORIZON, CHANNELS, dtype=torch.bool)
        future_mask[0, 2:] = True
        future = torch.ones(2, HORIZON, CHANNELS).masked_fill(future_mask, value)
        forecast = model(given, mask, known)
        mean_loss(forecast, future, future_mask).value.backward()
        assert not given.grad[mask].any()
        assert given.grad[~mask].isfinite().all()
        results.append([forecast.point.detach(), *(parameter.grad.clone() for parameter in model.parameters())])
    assert all(tensor.isfinite().all() for tensor in results[0])
    for others in results[1:]:
        assert all(torch.equal(mine, other) for mine, other in zip(results[0], others, strict=True))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1), st.sampled_from(FORMS))
def test_a_sample_is_forecast_alone_as_in_a_batch(seed, share, form):
    model = forecaster(*form).eval()
    past, known = inputs(form[2], batch=3, seed=seed)
    mask = torch.rand(past.shape, generator=torch.Generator().manual_seed(seed)) < share
    with torch.no_grad():
        together = model(past, mask, known).point
        for row in range(3):
            alone = model(past[row : row + 1], mask[row : row + 1], None if known is None else known[row : row + 1])
            torch.testing.assert_close(alone.point[0], together[row], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_any_attention_by_a_flag(attention):
    model = forecaster(attention=attention)
    past, _ = inputs()
    mask = torch.zeros_like(past, dtype=torch.bool)
    mask[0, :16] = True
    forecasts = [model(past.masked_fill(mask, value), mask).point for value in (0.0, torch.nan)]
    assert forecasts[0].isfinite().all()
    assert torch.equal(*forecasts)


def test_patches_of_channels_know_nothing_of_each_other_and_channel_tokens_do():
    past, _ = inputs()
    other = past.clone()
    other[:, :, 2] += torch.randn(CONTEXT)
    for tokens, alike in (("patches", True), ("channels", False), ("steps", False)):
        model = forecaster(tokens).eval()
        first, second = model(past).point, model(other).point
        assert torch.equal(first[..., 0], second[..., 0]) == alike, tokens


@pytest.mark.parametrize("tokens", ["patches", "channels", "steps"])
@pytest.mark.parametrize("decoded", [False, True])
def test_covariates_of_the_future_matter(tokens, decoded):
    if tokens == "channels" and decoded:
        pytest.skip("channels are no steps of time for a decoder")
    model, (past, known) = forecaster(tokens, decoded, 2).eval(), inputs(2)
    changed = known.clone()
    changed[:, -1] += 1
    assert not torch.equal(model(past, None, known).point, model(past, None, changed).point)


def test_patches_cover_the_history_to_its_last_step():
    tokens = PatchTokens(SeriesShape(30, 7, 1), 8, patch_length=8, stride=4)
    assert tokens.token_steps == [(first, first + 7) for first in range(2, 23, 4)]
    padded = PatchTokens(SeriesShape(30, 7, 1), 8, patch_length=8, stride=4, padding=4)
    assert padded.token_steps[-1] == (26, 29)
    series = torch.arange(30.0)[None, None]
    assert padded._patches(series)[0, 0, -1].tolist() == [26, 27, 28, 29, 29, 29, 29, 29]
    assert tokens._patches(series)[0, 0, 0].tolist() == list(range(2, 10))


def test_patches_of_the_future_hold_its_covariates():
    tokens = PatchTokens(SeriesShape(30, 7, 1, 1), 8, patch_length=8, stride=4)
    patches = tokens._covariate_patches(torch.arange(37.0).view(1, 37, 1))[0]
    assert len(patches) == tokens.num_past + tokens.num_future == 8
    assert patches[tokens.num_past - 1].tolist() == list(range(22, 30))
    assert patches[-2].tolist() == list(range(26, 34))
    assert patches[-1].tolist() == [*range(30, 37), 36]


def test_a_constant_history_gives_a_constant_forecast():
    for form in FORMS:
        model, (_, known) = forecaster(*form, head=QuantileHead([0.1, 0.5])), inputs(form[2])
        forecast = model(torch.full((2, CONTEXT, CHANNELS), 7.5), None, known)
        torch.testing.assert_close(forecast.quantiles, torch.full((2, HORIZON, CHANNELS, 2), 7.5))


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(form, marks=pytest.mark.slow if form[1] or form[0] in ("steps", "apart") else ())
        for form in FORMS
        if form[0] != "padded" and not form[2]
    ],
    ids=str,
)
def test_overfits_a_batch(form):
    model, (past, known) = forecaster(*form), inputs(form[2])
    future = torch.randn(2, HORIZON, CHANNELS, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=200)
    for _ in range(200):
        loss = model(past, None, known).loss(future).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    assert loss.item() < 0.2 * future.var()


@pytest.mark.parametrize("head", [PointHead(), QuantileHead([0.1, 0.5, 0.9]), StudentTHead([0.1, 0.9])], ids=repr)
@pytest.mark.parametrize("tokens", ["patches", "steps"])
def test_a_direct_map_shifts_the_whole_forecast(tokens, head):
    """What the map says of a channel is added to its point and all its quantiles, in the history's own scale."""
    torch.manual_seed(0)
    sizes = {"context_length": CONTEXT, "prediction_length": HORIZON, "num_channels": CHANNELS}
    model = Forecaster(Encoder(16, 2, 1), **sizes, tokens=TOKENS[tokens], head=head, direct=True).eval()
    past, _ = inputs()
    mask = torch.zeros_like(past, dtype=torch.bool)
    mask[0, 5:9, 1] = True
    with torch.no_grad():
        before = model(past.masked_fill(mask, torch.nan), mask)
        model.direct.weight.normal_(std=0.1)
        after = model(past.masked_fill(mask, torch.nan), mask)
        x, _, scale = model.normalization(past, mask)
        shift = torch.einsum("hl,blc->bhc", model.direct.weight, x) * scale
    torch.testing.assert_close(after.point - before.point, shift, rtol=1e-4, atol=1e-4)
    if after.quantiles is not None:
        shifts = shift[..., None].expand_as(after.quantiles)
        torch.testing.assert_close(after.quantiles - before.quantiles, shifts, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"context_length": 0}, "context_length=0"),
        ({"num_covariates": -1}, "num_covariates=-1"),
        ({"start_length": 3}, "start_length=3 is for a decoder"),
        ({"tokens": partial(PatchTokens, patch_length=31)}, "patch_length=31"),
        ({"tokens": partial(PatchTokens, patch_length=8, stride=0)}, "stride=0"),
        ({"tokens": ChannelTokens, "decoder": Decoder(16, 2, 1)}, "tokens=ChannelTokens"),
        ({"decoder": Decoder(8, 2, 1)}, "decoder.embed_dim=8 differs from encoder.embed_dim=16"),
        ({"decoder": Decoder(16, 2, 1), "start_length": 31}, "start_length=31"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    sizes = {"context_length": CONTEXT, "prediction_length": HORIZON, "num_channels": CHANNELS}
    with pytest.raises(ValueError, match=message):
        Forecaster(Encoder(16, 2, 1), **sizes | arguments)


@pytest.mark.parametrize(
    ("covariates", "past", "known", "message"),
    [
        (0, (1, 29, 3), None, "past is of 29 steps and 3 channels"),
        (0, (1, 30, 2), None, "past is of 30 steps and 2 channels"),
        (2, (1, 30, 3), None, "covariates are of 37 steps and 0 each"),
        (0, (1, 30, 3), (1, 37, 2), "covariates are of 37 steps and 2 each"),
        (2, (1, 30, 3), (1, 30, 2), "covariates are of 30 steps and 2 each"),
    ],
)
def test_inputs_of_other_sizes_are_refused(covariates, past, known, message):
    with pytest.raises(ValueError, match=message):
        forecaster(covariates=covariates)(torch.zeros(past), None, None if known is None else torch.zeros(known))

"""Where the network looked: the weights by hand, and what is drawn of them."""

import io
from functools import partial

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from core import Decoder, Encoder, LinearAttention
from core.explain import record_attention
from tasks.forecast.explanation import draw, draw_channels, explain
from tasks.forecast.model import Forecaster
from tasks.forecast.module import ForecastModule
from tasks.forecast.tokens import ChannelTokens, PatchTokens, StepTokens
from tests.core.helpers import ATTENTIONS, assert_same, with_each
from tests.tasks.explaining import explained, last_layer, rollout
from tests.tasks.forecast.helpers import predicted

CONTEXT, HORIZON = 12, 4
NAMES = ["a", "b", "c"]


PATCHES = partial(PatchTokens, patch_length=4, stride=2)


def forecaster(tokens=PATCHES, *, layers=2, covariates=0, **more) -> Forecaster:
    torch.manual_seed(0)
    shape = {"context_length": CONTEXT, "prediction_length": HORIZON, "num_channels": 3, "num_covariates": covariates}
    attention = more.pop("attention", None)
    encoder = Encoder(8, 2, layers, 16, dropout=0.5, **({"attention": attention} if attention else {}))
    return Forecaster(encoder, tokens=tokens, **shape, **more)


def decoder() -> Decoder:
    return Decoder(8, 2, 2, 16, dropout=0.5)


def sample(covariates=0):
    generator = torch.Generator().manual_seed(1)
    given = {"past": torch.randn(1, CONTEXT, 3, generator=generator)}
    given["past_mask"] = torch.zeros(1, CONTEXT, 3, dtype=torch.bool)
    if covariates:
        given["covariates"] = torch.randn(1, CONTEXT + HORIZON, covariates, generator=generator)
    return given


def look(model, given):
    """What `explain` makes of a pass of the network."""
    names = [f"encoder.layers.{number}.attention" for number in range(len(model.encoder.layers))]
    depth = len(names)
    if model.decoder is not None:
        names.append(f"decoder.decoder.layers.{len(model.decoder.decoder.layers) - 1}.cross_attention")
    with torch.no_grad(), record_attention(model, layers=names) as recorded:
        model.eval()(**given)
    calls = [call for (call,) in recorded.values()]
    return explain(model, calls[:depth], *calls[depth:])


def last_weights(model, given):
    """Softmax of the products in the encoder's last layer, mean over heads: (sequences, tokens, tokens)."""
    seen = {}
    mechanism = model.encoder.layers[-1].attention.attention
    hook = mechanism.register_forward_pre_hook(lambda _, args: seen.update(q=args[0], k=args[1]))
    model.eval()(**given)
    hook.remove()
    return (seen["q"] @ seen["k"].mT / seen["q"].shape[-1] ** 0.5).softmax(-1).mean(1)


@torch.no_grad()
def test_a_patchs_weight_is_spread_over_its_steps():
    model, given = forecaster(), sample()
    found = look(model, given)
    by_hand = torch.zeros(3, CONTEXT)
    for token, (first, last) in enumerate(model.tokens.token_steps):
        weight = last_weights(model, given)[:, :, token].mean(1)
        for step in range(first, last + 1):
            by_hand[:, step] += weight / (last - first + 1)
    torch.testing.assert_close(found["last_layer"], by_hand)
    assert found["last_layer"].std(1).min() > 1e-3, "steps are told apart"
    torch.testing.assert_close(found["last_layer"].sum(1), torch.ones(3))
    torch.testing.assert_close(found["rollout"].sum(1), torch.ones(3))


@torch.no_grad()
def test_rollout_of_one_layer_is_half_of_it_and_half_each_token_itself():
    model, given = forecaster(layers=1), sample()
    found = look(model, given)
    shares = torch.zeros(CONTEXT)
    for first, last in model.tokens.token_steps:
        shares[first : last + 1] += 1 / (last - first + 1) / len(model.tokens.token_steps)
    torch.testing.assert_close(found["rollout"], 0.5 * found["last_layer"] + 0.5 * shares)


def test_missing_steps_are_not_looked_at():
    model, given = forecaster(), sample()
    given["past_mask"][0, :6, 0] = True  # the patches of steps 0-3 and 2-5
    given["past_mask"][0, :, 1] = True
    found = look(model, given)
    for measure in ("last_layer", "rollout"):
        assert found[measure][0, :4].abs().max() == 0
        assert found[measure][0].sum() == pytest.approx(1)
        assert found[measure][1].abs().max() == 0
        assert found[measure][2, 0] > 0


def test_covariates_of_the_future_take_their_share():
    model, given = forecaster(covariates=2), sample(covariates=2)
    found = look(model, given)
    assert found["last_layer"].shape == (3, CONTEXT)
    share = last_weights(model, given)[:, :, : len(model.tokens.token_steps)].mean(1).sum(1)
    torch.testing.assert_close(found["last_layer"].sum(1), share)
    assert share.max() < 0.99


@pytest.mark.parametrize("attention", [None, LinearAttention])
def test_steps_as_tokens_with_a_decoder(attention):
    model, given = forecaster(StepTokens, decoder=decoder(), start_length=3, attention=attention), sample()
    found = look(model, given)
    assert {name: tuple(each.shape) for name, each in found.items()} == {
        "last_layer": (1, CONTEXT),
        "rollout": (1, CONTEXT),
        "cross_attention": (1, HORIZON, CONTEXT),
    }
    torch.testing.assert_close(found["cross_attention"].sum(-1), torch.ones(1, HORIZON))


@torch.no_grad()
def test_the_decoders_rows_are_those_of_the_steps_ahead():
    model, given = forecaster(decoder=decoder(), start_length=5), sample()
    seen = {}
    layer = model.decoder.decoder.layers[-1].cross_attention.attention
    hook = layer.register_forward_pre_hook(lambda _, args: seen.update(q=args[0], k=args[1]))
    found = look(model, given)["cross_attention"]
    hook.remove()
    weights = (seen["q"] @ seen["k"].mT / seen["q"].shape[-1] ** 0.5).softmax(-1).mean(1)[:, 5:]
    first_patch_alone = model.tokens.token_steps[0][0]
    torch.testing.assert_close(found[:, :, first_patch_alone], weights[:, :, 0] / 4)


@pytest.mark.parametrize("covariates", [0, 2])
def test_channels_look_at_channels(covariates):
    model, given = forecaster(ChannelTokens, covariates=covariates), sample(covariates)
    found = look(model, given)
    with torch.no_grad():
        torch.testing.assert_close(found["last_layer"], last_weights(model, given)[0])
    for each in found.values():
        torch.testing.assert_close(each.sum(1), torch.ones(3 + covariates))


@pytest.fixture
def drawn(monkeypatch):
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    return figures


def test_weights_stand_below_their_steps(drawn):
    batch = predicted(["s"], NAMES, zone="Europe/London")
    weights = {name: torch.rand(3, CONTEXT) for name in ("last_layer", "rollout")}
    weights["cross_attention"] = torch.rand(3, HORIZON, CONTEXT)
    assert [part for part, _ in draw(batch, 0, weights, "x")] == ["_a", "_b", "_c"]
    above, below, last, *_ = drawn[1].axes
    assert above.get_title() == "x, s, b"
    history = above.lines[0]
    expected = (batch["past"][0, :, 1] * 10 + 100)[~batch["past_mask"][0, :, 1]]
    np.testing.assert_allclose(np.asarray(history.get_ydata())[3:], expected.numpy(), rtol=1e-6)
    for line, measure in zip(below.lines, ("last_layer", "rollout"), strict=False):
        assert line.get_xdata(orig=True).tolist() == history.get_xdata(orig=True).tolist()
        np.testing.assert_array_equal(line.get_ydata(), weights[measure][1].numpy() * CONTEXT)  # 1 = all alike
    np.testing.assert_array_equal(
        last.collections[0].get_array().reshape(HORIZON, CONTEXT), weights["cross_attention"][1]
    )


def test_channels_that_go_together_are_drawn_together_and_standardised(drawn):
    batch = predicted([""], NAMES)
    weights = {name: torch.rand(1, CONTEXT) for name in ("last_layer", "rollout")}
    assert [part for part, _ in draw(batch, 0, weights, "x")] == [""]
    lines = [line for line in drawn[0].axes[0].lines if line.get_label() == "history"]
    assert len(lines) == 3
    np.testing.assert_allclose(np.asarray(lines[2].get_ydata())[3:], batch["past"][0, 3:, 2].numpy())


def test_channels_that_look_at_channels_are_named(drawn):
    weights = {name: torch.rand(5, 5) for name in ("last_layer", "rollout")}
    assert [part for part, _ in draw_channels(predicted([""], NAMES), 0, weights, "x")] == [""]
    labels = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert labels == ["a", "b", "c", "covariate 1", "covariate 2"]


def module(tokens=PATCHES, **more) -> ForecastModule:
    return ForecastModule(forecaster(tokens, **more), facts={"channel_names": NAMES})


@with_each(ATTENTIONS)
@pytest.mark.parametrize("form", ["patches", "channels", "steps with a decoder"])
def test_the_samples_of_a_batch_are_explained_one_by_one(attention, form):
    """Each as if it were alone, by weights that are the fast path's."""
    more = {"decoder": decoder(), "start_length": 3} if "decoder" in form else {}
    tokens = {"patches": PATCHES, "channels": ChannelTokens}.get(form, StepTokens)
    made = module(tokens, attention=attention, **more)
    batch = predicted(["s/1", "s/2"], NAMES, context=CONTEXT, steps=HORIZON, zone="Asia/Kolkata")
    batch |= {"failed": []}
    explanations, _ = explained(made, batch, ["in/grid.csv"])
    assert [each.part for each in explanations] == ["_s-1", "_s-2"]
    for row, explanation in enumerate(explanations):
        alone = {name: batch[name][row : row + 1] for name in ("past", "past_mask")}
        for measure, weights in look(made.forecaster, alone).items():
            assert_same(explanation.weights[measure], weights)
        assert explanation.weights["channel_names"] == NAMES
        assert explanation.weights["times"][0] == "2024-03-30T20:00:00+05:30"


@with_each(ATTENTIONS)
@torch.no_grad()
def test_rollout_is_the_product_of_the_layers(attention):
    model, given = forecaster(ChannelTokens, attention=attention), sample()
    with record_attention(model) as recorded:
        model.eval()(**given)
    calls = [call for (call,) in recorded.values()]
    found = explain(model, calls)
    assert_same(found["last_layer"], last_layer(calls)[0])
    assert_same(found["rollout"], rollout(calls)[0])


def test_a_history_of_nothing_can_be_drawn(tmp_path):
    batch = predicted([""], NAMES)
    batch["past_mask"][:] = True
    weights = look(forecaster(), {name: batch[name] for name in ("past", "past_mask")})
    for _, picture in draw(batch, 0, weights, "$x$"):
        assert Image.open(io.BytesIO(picture)).size[0] == 1200

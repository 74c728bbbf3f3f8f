"""Where the network looked: the weights by hand, and what is drawn of them."""

import io
import logging
from functools import partial

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from core import Decoder, Encoder, LinearAttention
from tasks.forecast.explanation import draw, explain, save_explanations
from tasks.forecast.model import Forecaster
from tasks.forecast.tokens import ChannelTokens, PatchTokens, StepTokens
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
    found = explain(model, **given)
    by_hand = torch.zeros(3, CONTEXT)
    for token, (first, last) in enumerate(model.tokens.token_steps):
        weight = last_weights(model, given)[:, :, token].mean(1)
        for step in range(first, last + 1):
            by_hand[:, step] += weight / (last - first + 1)
    torch.testing.assert_close(found["encoder"], by_hand)
    assert found["encoder"].std(1).min() > 1e-3, "steps are told apart"
    torch.testing.assert_close(found["encoder"].sum(1), torch.ones(3))
    torch.testing.assert_close(found["rollout"].sum(1), torch.ones(3))


@torch.no_grad()
def test_rollout_of_one_layer_is_half_of_it_and_half_each_token_itself():
    model, given = forecaster(layers=1), sample()
    found = explain(model, **given)
    shares = torch.zeros(CONTEXT)
    for first, last in model.tokens.token_steps:
        shares[first : last + 1] += 1 / (last - first + 1) / len(model.tokens.token_steps)
    torch.testing.assert_close(found["rollout"], 0.5 * found["encoder"] + 0.5 * shares)


def test_dropout_is_off_and_training_goes_on_after_it():
    model, given = forecaster().train(), sample()
    assert torch.equal(explain(model, **given)["encoder"], explain(model, **given)["encoder"])
    assert model.training
    assert model.encoder.training
    assert not any(module._forward_hooks for module in model.modules())


def test_missing_steps_are_not_looked_at():
    model, given = forecaster(), sample()
    given["past_mask"][0, :6, 0] = True  # the patches of steps 0-3 and 2-5
    given["past_mask"][0, :, 1] = True
    found = explain(model, **given)
    for measure in ("encoder", "rollout"):
        assert found[measure][0, :4].abs().max() == 0
        assert found[measure][0].sum() == pytest.approx(1)
        assert found[measure][1].abs().max() == 0
        assert found[measure][2, 0] > 0


def test_covariates_of_the_future_take_their_share():
    model, given = forecaster(covariates=2), sample(covariates=2)
    found = explain(model, **given)
    assert found["encoder"].shape == (3, CONTEXT)
    share = last_weights(model, given)[:, :, : len(model.tokens.token_steps)].mean(1).sum(1)
    torch.testing.assert_close(found["encoder"].sum(1), share)
    assert share.max() < 0.99


@pytest.mark.parametrize("attention", [None, LinearAttention])
def test_steps_as_tokens_with_a_decoder(attention):
    model, given = forecaster(StepTokens, decoder=decoder(), start_length=3, attention=attention), sample()
    found = explain(model, **given)
    assert {name: tuple(each.shape) for name, each in found.items()} == {
        "encoder": (1, CONTEXT),
        "rollout": (1, CONTEXT),
        "decoder": (1, HORIZON, CONTEXT),
    }
    torch.testing.assert_close(found["decoder"].sum(-1), torch.ones(1, HORIZON))


@torch.no_grad()
def test_the_decoders_rows_are_those_of_the_steps_ahead():
    model, given = forecaster(decoder=decoder(), start_length=5), sample()
    seen = {}
    layer = model.decoder.decoder.layers[-1].cross_attention.attention
    hook = layer.register_forward_pre_hook(lambda _, args: seen.update(q=args[0], k=args[1]))
    found = explain(model, **given)["decoder"]
    hook.remove()
    weights = (seen["q"] @ seen["k"].mT / seen["q"].shape[-1] ** 0.5).softmax(-1).mean(1)[:, 5:]
    first_patch_alone = model.tokens.token_steps[0][0]
    torch.testing.assert_close(found[:, :, first_patch_alone], weights[:, :, 0] / 4)


@pytest.mark.parametrize("covariates", [0, 2])
def test_channels_look_at_channels(covariates):
    model, given = forecaster(ChannelTokens, covariates=covariates), sample(covariates)
    found = explain(model, **given)
    assert list(found) == ["channels", "channels_rollout"]
    with torch.no_grad():
        torch.testing.assert_close(found["channels"], last_weights(model, given)[0])
    for each in found.values():
        torch.testing.assert_close(each.sum(1), torch.ones(3 + covariates))


@pytest.fixture
def drawn(monkeypatch):
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    return figures


def test_weights_stand_below_their_steps(drawn):
    batch = predicted(["s"], NAMES, zone="Europe/London")
    weights = {name: torch.rand(3, CONTEXT) for name in ("encoder", "rollout")}
    weights["decoder"] = torch.rand(3, HORIZON, CONTEXT)
    assert list(draw(batch, 0, weights, "x")) == ["x_a", "x_b", "x_c"]
    above, below, last, *_ = drawn[1].axes
    assert above.get_title() == "x, s, b"
    history = above.lines[0]
    expected = (batch["past"][0, :, 1] * 10 + 100)[~batch["past_mask"][0, :, 1]]
    np.testing.assert_allclose(np.asarray(history.get_ydata())[3:], expected.numpy(), rtol=1e-6)
    for line, measure in zip(below.lines, ("encoder", "rollout"), strict=False):
        assert line.get_xdata(orig=True).tolist() == history.get_xdata(orig=True).tolist()
        np.testing.assert_array_equal(line.get_ydata(), weights[measure][1].numpy())
    np.testing.assert_array_equal(last.collections[0].get_array().reshape(HORIZON, CONTEXT), weights["decoder"][1])


def test_channels_that_go_together_are_drawn_together_and_standardised(drawn):
    batch = predicted([""], NAMES)
    weights = {name: torch.rand(1, CONTEXT) for name in ("encoder", "rollout")}
    assert list(draw(batch, 0, weights, "x")) == ["x"]
    lines = [line for line in drawn[0].axes[0].lines if line.get_label() == "history"]
    assert len(lines) == 3
    np.testing.assert_allclose(np.asarray(lines[2].get_ydata())[3:], batch["past"][0, 3:, 2].numpy())


def test_channels_that_look_at_channels_are_named(drawn):
    weights = {name: torch.rand(5, 5) for name in ("channels", "channels_rollout")}
    assert list(draw(predicted([""], NAMES), 0, weights, "x")) == ["x"]
    labels = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert labels == ["a", "b", "c", "covariate 1", "covariate 2"]


def test_files_hold_the_weights_and_pictures(tmp_path):
    batch, model = predicted(["s/1", "s/2"], NAMES, zone="Asia/Kolkata"), forecaster()
    for _ in range(2):
        save_explanations([batch], ["in/grid.csv"], tmp_path, model)
    written = {path.name for path in (tmp_path / "attention").iterdir() if "_20" not in path.name}
    expected = {f"grid_s-{number}{end}" for number in (1, 2) for end in (".npz", "_a.png", "_b.png", "_c.png")}
    assert written == expected
    assert len(list((tmp_path / "attention").iterdir())) == 2 * len(expected), "those of the first time are kept"
    assert Image.open(tmp_path / "attention/grid_s-1_a.png").size[0] == 1200
    with np.load(tmp_path / "attention/grid_s-2.npz") as saved:
        one = {name: batch[name][1:2] for name in ("past", "past_mask")}
        np.testing.assert_array_equal(saved["encoder"], explain(model, **one)["encoder"].numpy())
        assert saved["times"][0] == "2024-03-30T20:00:00+05:30"
        assert saved["channel_names"].tolist() == NAMES
        assert "last layer" in str(saved["measures"][0])


def test_of_many_series_the_first_are_explained_and_it_is_said(tmp_path, caplog, drawn):
    batch = predicted([f"s{number}" for number in range(60)], NAMES)
    with caplog.at_level(logging.INFO, logger="tasks"):
        save_explanations([batch], ["many.csv"], tmp_path, forecaster())
    assert len(drawn) == 51
    assert len(list((tmp_path / "attention").glob("*.npz"))) == 17
    assert "explained the first 17 of 60 series" in caplog.text


def test_a_history_of_nothing_can_be_drawn(tmp_path):
    batch = predicted([""], NAMES)
    batch["past_mask"][:] = True
    weights = explain(forecaster(), batch["past"], batch["past_mask"])
    for picture in draw(batch, 0, weights, "$x$").values():
        assert Image.open(io.BytesIO(picture)).size[0] == 1200

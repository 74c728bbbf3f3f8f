"""The peers of forecasting are our network, but for what each alone has; sizes and dropouts agree."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from tasks.benchmark.speed.forecast import Predictor, Sizes
from tasks.benchmark.speed.forecast_cases import FORECAST_CASES
from tasks.benchmark.speed.forecast_peers import PlainLayer, PlainPatchTST, PublishedPatchTST
from tasks.forecast.model import Forecaster
from tasks.forecast.tokens import PatchTokens

ETTH1 = Sizes(336, 96, 7, 16, 8, 16, 4, 3, 128, dropout=0.3)
TINY = Sizes(28, 5, 2, 8, 4, 8, 2, 2, 12, dropout=0.0)
_BATCH = FORECAST_CASES[-1].batch()[0]
_LENGTHS = {"context_length": 28, "prediction_length": 5, "num_channels": 2}
_NAMES = {
    "attention.out": "attention.out_proj",
    "feedforward.0": "feedforward.linear1",
    "feedforward.3": "feedforward.linear2",
    "norm1": "attention_residual.norm",
    "norm2": "feedforward_residual.norm",
}
"""Of a layer's parts: theirs, and ours."""


def _randomise(peer: nn.Module) -> None:
    """Weights and running statistics far from their start, where norms and biases do nothing."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in peer.state_dict().items():
            if "norm" in name and tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
            elif name.endswith("bias") or name == "position":
                tensor.normal_(std=0.3)


def _as_ours(peer: PlainPatchTST) -> dict[str, torch.Tensor]:
    """The weights of the peer by our names, in our order."""
    weights, sizes = peer.state_dict(), peer.sizes
    ours = {f"tokens.embedding.{end}": weights.pop(f"embedding.{end}") for end in ("weight", "bias")}
    ours["tokens.position.weight"] = weights.pop("position")
    by_feature = weights.pop("head.weight").view(-1, sizes.width, sizes.patches)
    ours["projection.weight"] = by_feature.transpose(1, 2).flatten(1)
    ours["projection.bias"] = weights.pop("head.bias")
    for layer in range(sizes.layers):
        for end in ("weight", "bias"):
            parts = [weights.pop(f"layers.{layer}.attention.{part}.{end}") for part in ("query", "key", "value")]
            ours[f"encoder.layers.{layer}.attention.in_proj.{end}"] = torch.cat(parts)
    for name, weight in weights.items():
        for theirs, own in _NAMES.items():
            name = name.replace(theirs, own)
        ours[f"encoder.{name}"] = weight
    return ours


def _pair() -> tuple[Predictor, PlainPatchTST]:
    peer, ours = PlainPatchTST(TINY, residual=False), Predictor(TINY)
    _randomise(peer)
    ours.forecaster.load_state_dict(_as_ours(peer))
    return ours, peer


def test_the_peer_by_hand_forecasts_as_ours():
    ours, peer = _pair()
    with torch.no_grad():
        forecast, expected = ours.eval()(*_BATCH), peer.eval()(*_BATCH)
    torch.testing.assert_close(forecast, expected, rtol=1e-4, atol=1e-4)
    assert forecast.std(1).min() > 0.1


def test_the_peer_by_hand_trains_as_ours():
    ours, peer = _pair()
    losses = [network.train()(*_BATCH) for network in (ours, peer)]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=0)
    for loss in losses:
        loss.backward()
    expected = _as_ours(_with_gradients(peer))
    gradients = {name: parameter.grad for name, parameter in ours.forecaster.named_parameters()}
    torch.testing.assert_close(gradients, {name: expected[name] for name in gradients}, rtol=1e-3, atol=1e-5)


def _with_gradients(peer: PlainPatchTST) -> PlainPatchTST:
    """A peer whose weights are the gradients of this one's."""
    made = PlainPatchTST(peer.sizes)
    with torch.no_grad():
        for own, other in zip(made.parameters(), peer.parameters(), strict=True):
            assert other.grad is not None
            own.copy_(other.grad)
    return made


def test_transformers_is_ours_without_padding(tmp_path):
    peer, ours = PublishedPatchTST(TINY), Predictor(TINY)
    _randomise(peer)
    torch.save(peer.model.state_dict(), tmp_path / "peer.pt")
    tokens = partial(PatchTokens, patch_length=TINY.patch_length, stride=TINY.stride)
    unpadded = Forecaster(ours.forecaster.encoder, **_LENGTHS, tokens=tokens, pretrained=str(tmp_path / "peer.pt"))
    ours.forecaster = unpadded
    for mode in (True, False):
        outputs = [network.train(mode)(*_BATCH) for network in (ours, peer)]
        torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)


def test_scores_go_from_layer_to_layer():
    torch.manual_seed(0)
    layer, x, before = PlainLayer(TINY), torch.randn(4, 7, 8), torch.randn(4, 2, 7, 7)
    own, added = layer(x, None)[1], layer(x, before)[1]
    torch.testing.assert_close(added, own + before)
    ours, peer = _pair()
    peer.residual = True
    with torch.no_grad():
        assert (ours.eval()(*_BATCH) - peer.eval()(*_BATCH)).abs().max() > 1e-3


@pytest.mark.parametrize("case", FORECAST_CASES, ids=lambda case: case.name)
def test_sizes_agree_but_for_the_patch_of_the_padding(case):
    counts = [sum(parameter.numel() for parameter in make().parameters()) for make in (case.ours, case.peer)]
    sizes = TINY if case.name.startswith("test") else ETTH1
    patch = sizes.width * (1 + sizes.prediction_length)  # a position, and a column of the head for each feature
    assert counts[0] - counts[1] == (patch if case.peer_name == "transformers" else 0)


@pytest.mark.parametrize(("network", "each"), [(Predictor, 3), (PublishedPatchTST, 3), (PlainPatchTST, 4)])
def test_all_drop_alike(network, each):
    """After the positions, in each feed-forward network, on each branch; by hand what attention gives once more."""
    made, dropped = network(replace(TINY, dropout=0.3)).train(), []
    for part in made.modules():
        if isinstance(part, nn.Dropout):
            part.register_forward_hook(lambda part, *_: dropped.append(part.p))
    assert made(*_BATCH) != made(*_BATCH)
    assert [p for p in dropped if p > 0] == 2 * (1 + each * TINY.layers) * [0.3]


@pytest.mark.parametrize("case", FORECAST_CASES[:2], ids=lambda case: case.name)
def test_the_case_is_the_original_script(case):
    past, _, future, _ = case.batch()[0]
    assert (past.shape, future.shape) == ((128, 336, 7), (128, 96, 7))
    assert case.ours.args == case.peer.args == (ETTH1,)
    assert ETTH1.patches == 42

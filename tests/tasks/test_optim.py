"""Parameter groups, freezing, schedules."""

import math
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch.optim import SGD, AdamW

from core import Encoder
from tasks.errors import TaskError
from tasks.optim import build_optimizer, freeze_parts
from tasks.schedules import StepDecay, WarmupCosine
from tasks.vit.model import ViT
from tasks.vit.module import ViTModule


def network() -> ViT:
    return ViT(Encoder(8, 2, 3, layer_scale=0.1), image_size=(8, 8), num_channels=1, num_classes=3, patch_size=4)


def test_only_matrices_decay():
    model = network()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    optimizer = build_optimizer(model, lambda groups: AdamW(groups, lr=1, weight_decay=0.5))
    by_decay: dict[float, set[str]] = {0.0: set(), 0.5: set()}
    for group in optimizer.param_groups:
        by_decay[group["weight_decay"]] |= {names[id(parameter)] for parameter in group["params"]}
    assert by_decay[0.0] | by_decay[0.5] == set(names.values())
    assert {name for name in by_decay[0.5] if not name.endswith("weight")} == set()
    assert "patch_embedding.projection.weight" in by_decay[0.5]
    assert "encoder.layers.0.attention.in_proj.weight" in by_decay[0.5]
    for name in ("position.weight", "prefix_tokens", "encoder.norm.weight", "head.bias"):
        assert name in by_decay[0.0]
    assert "encoder.layers.0.attention_residual.layer_scale.weight" in by_decay[0.0]


def test_layer_decay_by_hand():
    model = network()
    optimizer = build_optimizer(model, lambda groups: SGD(groups, lr=1.0), layer_decay=0.5)
    rate = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    parameters = dict(model.named_parameters())
    expected = {
        "patch_embedding.projection.weight": 0.5**4,
        "position.weight": 0.5**4,
        "encoder.layers.0.attention.in_proj.weight": 0.5**3,
        "encoder.layers.2.feedforward.linear1.bias": 0.5,
        "encoder.norm.weight": 1.0,
        "head.weight": 1.0,
    }
    assert {name: rate[id(parameters[name])] for name in expected} == expected


@pytest.mark.parametrize("layer_decay", [0.0, 1.5])
def test_layer_decay_out_of_range(layer_decay):
    with pytest.raises(ValueError, match=f"layer_decay={layer_decay}"):
        build_optimizer(network(), AdamW, layer_decay=layer_decay)


def test_frozen_parts_are_left_out():
    model = network()
    freeze_parts(model, ["encoder", "position"])
    optimizer = build_optimizer(model, AdamW)
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert trained == {
        id(parameter) for name, parameter in model.named_parameters() if not name.startswith(("encoder.", "position."))
    }
    with pytest.raises(ValueError, match="the parts are"):
        freeze_parts(model, ["enc"])
    with pytest.raises(ValueError, match="nothing to train"):
        freeze_parts(model, ["patch_embedding", "prefix_tokens", "head"])


def test_warmup_cosine_by_hand():
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = WarmupCosine(optimizer, 10, warmup=0.2, final=0.1)
    rates = []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    cosine = [2 * (0.1 + 0.9 * (1 + math.cos(math.pi * step / 8)) / 2) for step in range(9)]
    assert rates == pytest.approx([2 / 3, 4 / 3, *cosine])


def test_schedule_refuses_what_is_no_share():
    with pytest.raises(ValueError, match="warmup=2"):
        WarmupCosine(SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), 10, warmup=2)
    with pytest.raises(ValueError, match=r"at=1\.5"):
        StepDecay(SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), 10, at=1.5)


def test_step_decay_by_hand():
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = StepDecay(optimizer, 6)
    rates = []
    for _ in range(7):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([2.0] * 4 + [0.2] * 3)


def test_parts_learn_at_their_own_rates():
    model = network()
    optimizer = build_optimizer(
        model, lambda groups: SGD(groups, lr=2.0), lr_scale={"encoder": 0.5, "encoder.norm": 0.1}
    )
    rate = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    rates = {name: rate[id(parameter)] for name, parameter in model.named_parameters()}
    assert rates["head.weight"] == rates["position.weight"] == 2.0
    assert rates["encoder.layers.0.attention.in_proj.weight"] == 1.0
    assert rates["encoder.norm.weight"] == pytest.approx(0.1)


@pytest.mark.parametrize(("scale", "message"), [({"encodr": 0.1}, "'encodr'"), ({"encoder": -1.0}, "encoder=-1.0")])
def test_rates_of_parts_that_cannot_be_are_refused(scale, message):
    with pytest.raises(ValueError, match=f"lr_scale.*{message}"):
        build_optimizer(network(), AdamW, lr_scale=scale)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_gradients_are_clipped_or_it_is_said_why_not(precision: str, fused: bool):
    module = ViTModule(network(), facts={"class_names": ["a", "b", "c"]})
    scaler = torch.amp.GradScaler("cpu") if precision == "16-mixed" else None
    plugin = MixedPrecision(precision, "cpu", scaler)  # pyright: ignore[reportArgumentType]
    module.trainer = SimpleNamespace(precision_plugin=plugin, model=module)  # pyright: ignore[reportAttributeAccessIssue]
    optimizer = AdamW(module.network.parameters(), lr=1e-3, fused=fused)
    for parameter in module.network.parameters():
        parameter.grad = torch.ones_like(parameter)
    if precision == "16-mixed" and fused:
        with pytest.raises(TaskError, match=r"gradient_clip_val=0.5: .* --trainer.precision=bf16-mixed"):
            module.configure_gradient_clipping(optimizer, 0.5, "norm")
        return
    module.configure_gradient_clipping(optimizer, 0.5, "norm")
    norms = [parameter.grad.norm() for parameter in module.network.parameters() if parameter.grad is not None]
    assert torch.stack(norms).norm() == pytest.approx(0.5, rel=1e-4)

"""Where a network looked for a picture's class: the weights by hand, and where the heat is drawn."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from core import Encoder, FullAttention
from core.explain import each_sequence
from tasks.pictures import GAP, SIDE, TEXT
from tasks.vit.explanation import draw, grid_part
from tasks.vit.model import ViT
from tasks.vit.module import ViTModule
from tests.core.helpers import ATTENTIONS, assert_same, normal, with_each
from tests.tasks.explaining import explained, last_layer, rollout


def module(attention=FullAttention, **arguments) -> ViTModule:
    torch.manual_seed(0)
    sizes = {"image_size": (12, 16), "num_channels": 1, "num_classes": 3, "patch_size": 4}
    network = ViT(Encoder(8, 2, 3, 16, attention=attention), **(sizes | arguments))
    return ViTModule(network, facts={"class_names": ["one", "two", "a/b"]})


def batch(count=2, height=12, width=16):
    image = normal(count, 1, height, width)
    shown = torch.tensor([[0.0, 0.0, width, height]]).expand(count, -1)
    return {"image": image, "shown": shown, "index": torch.arange(count), "failed": []}


@with_each(ATTENTIONS)
@pytest.mark.parametrize(("pool", "registers"), [("class", 0), ("class", 2), ("mean", 0), ("mean", 2)])
def test_weights_are_those_that_the_head_reads_by(attention, pool, registers):
    """For a picture whose sides are no multiples of a patch as well."""
    made = module(attention, pool=pool, num_register_tokens=registers)
    explanations, recorded = explained(made, batch(height=11, width=14), ["a.png", "b.png"])
    prefix = registers + (pool == "class")
    for number, explanation in enumerate(explanations):
        calls = [each_sequence(calls)[number] for calls in recorded.values()]
        for name, matrix in {"last_layer": last_layer(calls)[0], "rollout": rollout(calls)[0]}.items():
            read = matrix[0] if pool == "class" else matrix[prefix:].mean(0)
            assert explanation.weights[name].shape == (3, 4)
            assert_same(explanation.weights[name].flatten(), read[prefix:])
        assert explanation.weights["label"] in ("one", "two", "a/b")


def test_the_grid_lies_where_the_patches_came_from():
    """Through scaling and cutting; the last patches reach beyond what is shown."""
    model = module().network
    assert isinstance(model, ViT)
    assert grid_part(model, (0, 0, 16, 12), (12, 16)) == (0, 0, 16, 12)
    assert grid_part(model, (20, 0, 80, 60), (30, 30)) == (20, 0, 84, 64)  # 8 patches of 4 for 30 pixels, at half size


def heat(tmp_path, *cells, part=(20.0, 0.0, 80.0, 60.0)) -> np.ndarray:
    """The pixels of the panel of the last layer over a grey picture of 100 x 60."""
    Image.new("RGB", (100, 60), (128, 128, 128)).save(tmp_path / "grey.png")
    weights = torch.full((3, 3), 1e-3)
    for cell in cells:
        weights[cell] = 1.0
    ((name, drawn),) = draw(tmp_path / "grey.png", {"last_layer": weights}, part, label="a", probability=0.5)
    assert name == ""
    pixels = np.array(Image.open(io.BytesIO(drawn)).convert("RGB")).astype(int)
    bottom = len(pixels) - GAP - 2 * TEXT
    return pixels[bottom - round(0.6 * SIDE) : bottom, -GAP - SIDE : -GAP].sum(-1)


def test_the_heat_is_where_the_patch_is(tmp_path):
    """Patch (0, 2) of three has x from 60 to 80 and y from 0 to 20 of 100 x 60."""
    difference = heat(tmp_path, (0, 2), (1, 1)) - heat(tmp_path, (1, 1))
    rows, columns = np.nonzero(abs(difference) > 30)
    scale = SIDE / 100
    assert columns.min() == pytest.approx(60 * scale, abs=2)
    assert columns.max() == pytest.approx(80 * scale, abs=2)
    assert rows.max() - rows.min() == pytest.approx(20 * scale, abs=2)


def test_what_the_network_did_not_get_is_dark(tmp_path):
    panel = heat(tmp_path, (1, 1))
    middle = panel[panel.shape[0] // 2]
    scale = SIDE / 100
    assert middle[: round(20 * scale) - 2].max() < 150
    assert middle[round(80 * scale) + 2 :].max() < 150
    assert middle[round(50 * scale)] > 300


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1), (2000, 30)])
@pytest.mark.parametrize("label", ["7", "weiße Zelle, $10^6$", "語" * 100, "a\nb"])
def test_any_picture_and_label_can_be_drawn(tmp_path, height, width, label):
    Image.new("L", (width, height), 80).save(tmp_path / "line.png")
    weights = {"last_layer": torch.rand(2, 2), "rollout": torch.zeros(2, 2)}
    part = (0.0, 0.0, float(width), float(height))
    ((_, drawn),) = draw(tmp_path / "line.png", weights, part, label=label, probability=1.0)
    assert max(Image.open(io.BytesIO(drawn)).size) < 2000

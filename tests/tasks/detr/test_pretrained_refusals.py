"""A checkpoint that does not fit a DETR is refused in one line that names what differs."""

import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from core import Decoder, Encoder
from tasks.detr.backbone import ConvStem
from tasks.detr.model import DETR
from tasks.detr.pretrained import load_pretrained
from tasks.detr.queries import AnchorQueries, LearnedQueries
from tests.tasks.damaged import CHANGES, damaged
from tests.tasks.detr.helpers import detr
from tests.tasks.detr.published import CLASSES, SMALL, ours

REFUSED = [
    ({"num_queries": 8}, r"queries\.num_queries=8, but the checkpoint has 9"),
    ({"num_queries": 10}, r"queries\.num_queries=10, but the checkpoint has 9"),
    ({"layers": (2, 2)}, r"decoder\.num_layers=2, but the checkpoint has 3"),
    ({"layers": (3, 3)}, r"encoder\.num_layers=3, but the checkpoint has 2"),
    ({"ffn_dim": 32}, r"encoder\.ffn_dim=32, but the checkpoint has 48; decoder\.ffn_dim=32"),
    ({"width": 48}, r"encoder\.embed_dim=48, but the checkpoint has 32"),
    ({"backbone": "resnet50"}, r"backbone=a ResNet of 3\+4\+6\+3 blocks, but .* a ResNet of 2\+2\+2\+2 blocks"),
    ({"backbone": ConvStem([4, 8])}, r"backbone=ConvStem, but the checkpoint has a ResNet of 2\+2\+2\+2 blocks"),
    ({"encoder": Encoder(32, 4, 2, 48, norm_first=False)}, r"encoder\.activation=GELU, but the checkpoint has ReLU"),
    (
        {"encoder": Encoder(32, 4, 2, 48, activation=nn.ReLU)},
        r"encoder\.norm_first=True, but the checkpoint has False",
    ),
    (
        {"decoder": Decoder(32, 4, 3, 48, activation=nn.ReLU)},
        r"decoder\.norm_first=True, but the checkpoint has False",
    ),
    (
        {"queries": lambda width: AnchorQueries(width, num_queries=9)},
        "queries=AnchorQueries, but the checkpoint has LearnedQueries",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_refusals_name_the_argument_and_both_values(published_file, arguments, message):
    size = {name: value for name, value in arguments.items() if name in SMALL and not isinstance(value, nn.Module)}
    other = {name: value for name, value in arguments.items() if name not in size}
    model = DETR(**(_parts() | other)) if "backbone" in other else ours(**(SMALL | size), **other)
    with pytest.raises(ValueError, match=message) as caught:
        load_pretrained(model, published_file)
    assert published_file in str(caught.value)
    assert "\n" not in str(caught.value)


def _parts() -> dict[str, Any]:
    model = ours(**SMALL)
    queries = {"queries": lambda width: LearnedQueries(width, num_queries=9)}
    return {"encoder": model.encoder, "decoder": model.decoder, "num_classes": CLASSES, **queries}


@settings(max_examples=6, deadline=None)
@given(data=st.data(), change=st.sampled_from(CHANGES))
def test_one_tensor_that_is_wrong_is_named(published, tmp_path_factory, data, change):
    state = published.state_dict()
    names = [name for name in state if not name.startswith("class_labels") and ".layers." in name]
    name = data.draw(st.sampled_from(names))
    path = tmp_path_factory.mktemp("wrong") / "model.pth"
    torch.save(damaged(state, name, change), path)
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        load_pretrained(ours(**SMALL), str(path))
    assert "\n" not in str(caught.value)
    layer = re.search(r"layers\.\d+|predictor\.layers", name)
    assert layer is not None
    tensor = layer[0].replace("predictor.layers", "box_head")
    assert any(each in str(caught.value) for each in (tensor, "num_layers=", "ffn_dim="))


@settings(max_examples=30, deadline=None)
@given(content=st.binary(max_size=60), suffix=st.sampled_from([".pth", ".safetensors", ".bin", ".pt"]))
def test_foreign_bytes_are_one_line(tmp_path_factory, content, suffix):
    path = tmp_path_factory.mktemp("foreign") / f"file{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        load_pretrained(detr(), str(path))
    assert "\n" not in str(caught.value)


def test_what_is_no_detr_is_one_line(published, tmp_path):
    model = ours(**SMALL)
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    torch.save({f"{name}.{part}": value for name in "ab" for part, value in published.state_dict().items()},
               tmp_path / "two.pth")  # fmt: skip
    for name, message in {
        "absent.pth": "no such file",
        "other.pth": "not a DETR's checkpoint",
        "two.pth": r"several models: a\.model\., b\.model\.",
    }.items():
        with pytest.raises(ValueError, match=message) as caught:
            load_pretrained(model, str(tmp_path / name))
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)

"""DETR with published weights is the published DETR.

That the training losses are transformers' too is in `tests/tasks/detr/test_losses.py`.
"""

import logging
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tasks.base import TaskModule
from tasks.build import TaskParser, add_model_arguments, without_pretrained
from tasks.detr.classification import FocalClassification
from tasks.detr.model import DETR
from tasks.detr.module import DETRModule
from tasks.detr.pretrained import COCO_IDS, load_pretrained
from tasks.optim import build_optimizer
from tests.tasks.detr.helpers import detr
from tests.tasks.detr.published import (
    CONFIG,
    SIZES,
    SMALL,
    assert_same_answers,
    facebook_names,
    hub_names,
    ours,
    reference,
    saved,
)


@pytest.mark.parametrize(
    ("names", "file_name"), [(dict, "now.safetensors"), (hub_names, "hub.bin"), (facebook_names, "facebook.pth")]
)
def test_it_is_transformers_detr(names, file_name, tmp_path):
    size = SMALL | {"backbone": "resnet50", "layers": (2, 2), "width": 64}
    theirs = reference(**size)
    mine = ours(**size, pretrained=saved(names(theirs.state_dict()), tmp_path / file_name))
    assert_same_answers(mine, theirs, (97, 64), (64, 129))
    assert_same_answers(mine, theirs, (64, 96), (64, 96))


def test_as_large_as_published(tmp_path):
    size = {"backbone": "resnet50", "layers": (6, 6), "width": 256, "num_heads": 8, "ffn_dim": 2048, "num_queries": 100}
    theirs = reference(**size)
    assert_same_answers(ours(**size, pretrained=saved(theirs.state_dict(), tmp_path / "large.pth")), theirs, *SIZES)


def test_a_resnet_under_transformers_own_names(tmp_path):
    """As in the revision `no_timm` of `facebook/detr-resnet-50`."""
    size = SMALL | {"backbone": "resnet50"}
    theirs = reference(**size, use_timm_backbone=False)
    for name, names in (("now", dict), ("hub", hub_names)):
        path = saved(names(theirs.state_dict()), tmp_path / f"{name}.pth")
        assert_same_answers(ours(**size, pretrained=path), theirs, *SIZES)


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Every tensor of facebookresearch/detr's `detr-r50-e632da11.pth`."""
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, out: int, into: int, *kernel: int) -> None:
        shapes.update({f"{name}.weight": (out, into, *kernel), f"{name}.bias": (out,)})

    def norm(name: str, width: int, *buffers: str) -> None:
        shapes.update({f"{name}.{part}": (width,) for part in ("weight", "bias", *buffers)})

    for stack, attentions in {"encoder": ["self_attn"], "decoder": ["self_attn", "multihead_attn"]}.items():
        for layer in range(6):
            prefix = f"transformer.{stack}.layers.{layer}"
            for attention in attentions:
                shapes[f"{prefix}.{attention}.in_proj_weight"] = (768, 256)
                shapes[f"{prefix}.{attention}.in_proj_bias"] = (768,)
                linear(f"{prefix}.{attention}.out_proj", 256, 256)
            linear(f"{prefix}.linear1", 2048, 256)
            linear(f"{prefix}.linear2", 256, 2048)
            for number in range(len(attentions) + 1):
                norm(f"{prefix}.norm{number + 1}", 256)
    norm("transformer.decoder.norm", 256)
    linear("class_embed", 92, 256)
    for number, width in enumerate([256, 256, 4]):
        linear(f"bbox_embed.layers.{number}", width, 256)
    shapes["query_embed.weight"] = (100, 256)
    linear("input_proj", 256, 2048, 1, 1)
    frozen = ("running_mean", "running_var")
    shapes["backbone.0.body.conv1.weight"] = (64, 3, 7, 7)
    norm("backbone.0.body.bn1", 64, *frozen)
    into = 64
    for stage, (blocks, width) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)], start=1):
        for block in range(blocks):
            prefix = f"backbone.0.body.layer{stage}.{block}"
            for number, (out, inside, kernel) in enumerate(
                [(width, into, 1), (width, width, 3), (4 * width, width, 1)]
            ):
                shapes[f"{prefix}.conv{number + 1}.weight"] = (out, inside, kernel, kernel)
                norm(f"{prefix}.bn{number + 1}", out, *frozen)
            if block == 0:
                shapes[f"{prefix}.downsample.0.weight"] = (4 * width, into, 1, 1)
                norm(f"{prefix}.downsample.1", 4 * width, *frozen)
            into = 4 * width
    return shapes


def test_every_published_tensor_lands_in_the_shipped_experiment(tmp_path, caplog):
    """Also for the 80 classes of COCO, whose rows of the class head are picked."""
    shapes = published_shapes()
    assert sum(torch.Size(shape).numel() for name, shape in shapes.items() if "bn" not in name) > 41_000_000
    state = {name: torch.randn(shape) for name, shape in shapes.items()}
    path = saved(state, tmp_path / "detr-r50.pth")
    config = without_pretrained(yaml.safe_load(CONFIG.read_text())["model"])
    parser = TaskParser()
    add_model_arguments(parser, DETRModule)
    caplog.set_level(logging.INFO)
    given = config | {"num_classes": 80, "category_ids": COCO_IDS, "pretrained": path}
    model = parser.instantiate_classes(parser.parse_object({"model": given})).model
    landed = {value.sum().item(): name for name, value in model.state_dict().items()}
    assert len(landed) == len(model.state_dict()) == len(state)
    for name, value in state.items():
        if name.startswith("class_embed."):
            value = value[[*COCO_IDS, 91]]
        assert value.sum().item() in landed, name
    assert "COCO" in caplog.text
    assert "fresh" not in caplog.text
    torch.testing.assert_close(model.class_head.weight[0], state["class_embed.weight"][1])  # person
    torch.testing.assert_close(model.class_head.bias[79:], state["class_embed.bias"][90:])  # toothbrush, no object


def coco_file(tmp_path: Path, published: Any) -> str:
    state = dict(published.state_dict())
    state["class_labels_classifier.weight"] = torch.arange(92.0)[:, None].expand(92, SMALL["width"])
    state["class_labels_classifier.bias"] = torch.arange(92.0)
    return saved(state, tmp_path / "coco.safetensors")


def test_rows_follow_the_category_ids(published, tmp_path):
    path = coco_file(tmp_path, published)
    ids = COCO_IDS[::-1]
    model = ours(**SMALL, num_classes=80, category_ids=ids, pretrained=path)
    assert model.class_head.bias.tolist() == [*ids, 91]
    assert model.class_head.weight[:, -1].tolist() == [*ids, 91]
    assert ours(**SMALL, num_classes=91, pretrained=path).class_head.bias.tolist() == list(range(92))


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_classes": 3},
        {"num_classes": 80},
        {"num_classes": 80, "category_ids": list(range(1, 81))},  # 80 classes of one's own
        {"num_classes": 80, "category_ids": COCO_IDS, "classification": FocalClassification()},
        {"num_classes": 92, "classification": FocalClassification()},
    ],
)
def test_other_classes_keep_the_class_head_fresh(arguments, published, tmp_path, caplog, recwarn):
    caplog.set_level(logging.INFO)
    model = ours(**SMALL, **arguments, pretrained=coco_file(tmp_path, published))
    assert f"num_classes={arguments['num_classes']}" in caplog.text
    assert "fresh stay class_head.bias, class_head.weight" in caplog.text
    assert model.class_head.weight.abs().max() < 1
    torch.testing.assert_close(model.norm.weight, published.model.decoder.layernorm.weight)
    assert not [each for each in recwarn if "pretrained" in str(each.message)]


def test_a_training_run_of_facebooks_keeps_its_arguments_beside(published, tmp_path, caplog):
    """And a panoptic one its masks' head, which has no place here."""
    state = {f"detr.{name}": value for name, value in facebook_names(published.state_dict()).items()}
    state["mask_head.lay1.weight"] = torch.zeros(2)
    torch.save({"model": state, "args": Namespace(lr=1e-4, device="cuda"), "epoch": 3}, tmp_path / "checkpoint.pth")
    caplog.set_level(logging.INFO)
    assert_same_answers(ours(**SMALL, pretrained=str(tmp_path / "checkpoint.pth")), published, *SIZES)
    assert "1 weights outside 'detr.' were left out: mask_head.lay1.weight" in caplog.text


@pytest.mark.parametrize("kind", ["plain", "dab", "proposals", "dn"])
@pytest.mark.parametrize("norm_first", [True, False])
def test_our_own_checkpoints(kind, norm_first, tmp_path):
    """As a run writes them: the network is there under two names."""
    first = detr(kind, norm_first=norm_first)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(torch.randn_like(parameter))
    state = module_of(first).state_dict()
    assert {name.split(".")[0] for name in state} == {"network", "detr"}
    torch.save({"state_dict": state, "epoch": 2}, tmp_path / "last.ckpt")
    second = detr(kind, norm_first=norm_first)
    load_pretrained(second, str(tmp_path / "last.ckpt"))
    torch.testing.assert_close(dict(second.state_dict()), dict(first.state_dict()), rtol=0, atol=0)


def module_of(network: DETR) -> TaskModule:
    names = [str(number) for number in range(network.num_classes)]
    return DETRModule(network, facts={"class_names": names, "category_ids": list(range(len(names)))})


@pytest.mark.parametrize("norm_first", [True, False])
def test_the_norm_of_a_pre_norm_decoder_is_one_tensor_under_two_names(norm_first):
    """Trained once, saved and loaded as one, also in a copy, as averaged weights are."""
    from copy import deepcopy

    model = detr(norm_first=norm_first)
    norms = {name for name in model.state_dict() if name in ("norm.weight", "decoder.norm.weight")}
    assert norms == ({"norm.weight", "decoder.norm.weight"} if norm_first else {"norm.weight"})
    optimizer = build_optimizer(model, torch.optim.AdamW, lr_scale={"decoder": 0.5})
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(trained) == len({id(parameter) for parameter in trained}) == len(list(model.parameters()))
    assert sum(parameter is model.norm.weight for parameter in trained) == 1
    copy = deepcopy(model)
    assert not norm_first or copy.decoder.norm is copy.norm
    with torch.no_grad():
        model.norm.weight.fill_(7.0)
    copy.load_state_dict(model.state_dict())
    assert copy.norm.weight[0] == 7.0
    assert not norm_first or copy.decoder.norm.weight[0] == 7.0


def test_weights_inside_a_networks_parts_are_not_downloaded_again():
    model = yaml.safe_load(CONFIG.read_text())["model"] | {"pretrained": "detr.pth"}
    assert model["backbone"]["init_args"]["pretrained"] is True
    kept = without_pretrained(model)
    assert kept["pretrained"] is None
    assert kept["backbone"]["init_args"] == model["backbone"]["init_args"] | {"pretrained": False}
    assert kept["encoder"] == model["encoder"]

"""DETR with published weights is the published DETR; what does not fit is refused in one line.

That the training losses are transformers' too is in `tests/tasks/detr/test_losses.py`.
"""

import logging
import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import DetrConfig, DetrForObjectDetection

from core import Decoder, Encoder
from tasks.base import TaskModule
from tasks.build import TaskParser, add_model_arguments, without_pretrained
from tasks.detr.backbone import ConvStem, TimmBackbone
from tasks.detr.classification import FocalClassification
from tasks.detr.model import DETR
from tasks.detr.module import DETRModule
from tasks.detr.pretrained import COCO_IDS, load_pretrained
from tasks.detr.queries import AnchorQueries, LearnedQueries
from tasks.optim import build_optimizer
from tests.tasks.detr.helpers import detr, padded

CONFIG = Path(__file__).parents[3] / "configs/detr/detr_r50_coco.yaml"
SMALL = {"backbone": "resnet18", "layers": (2, 3), "width": 32, "num_heads": 4, "ffn_dim": 48, "num_queries": 9}
CLASSES = 5
State = dict[str, Tensor]


def reference(
    *, backbone: str, layers: tuple[int, int], width: int, num_heads: int, ffn_dim: int, num_queries: int, **other
) -> Any:
    """Transformers' DETR with random values in every tensor, in those of the frozen norms too."""
    config = DetrConfig(
        **(other or {"backbone": backbone}),
        d_model=width,
        encoder_layers=layers[0],
        decoder_layers=layers[1],
        encoder_attention_heads=num_heads,
        decoder_attention_heads=num_heads,
        encoder_ffn_dim=ffn_dim,
        decoder_ffn_dim=ffn_dim,
        num_queries=num_queries,
        num_labels=CLASSES,
    )
    model = DetrForObjectDetection(config).eval()
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        random = torch.randn(value.shape, generator=generator)
        if name.endswith("running_var"):
            value.copy_(random.abs() + 0.5)
        elif value.ndim == 4:  # a convolution that keeps the size of what comes in
            value.copy_(random * value[0].numel() ** -0.5)
        elif value.ndim == 2:
            # Sharp enough that each query sees and says something of its own, also after six layers.
            gain = 3 if "q_proj" in name or "k_proj" in name else 1.4 if "bbox" in name else 1
            value.copy_(random * (1.0 if "query" in name else gain * value.shape[1] ** -0.5))
        else:
            value.copy_(random * 0.1 + float(name.endswith("weight")))
    return model


def ours(
    *, backbone: str, layers: tuple[int, int], width: int, num_heads: int, ffn_dim: int, num_queries: int, **other: Any
) -> DETR:
    stacks: dict[str, Any] = {"norm_first": False, "activation": nn.ReLU}
    arguments: dict[str, Any] = {
        "backbone": TimmBackbone(backbone),
        "encoder": Encoder(width, num_heads, layers[0], ffn_dim, **stacks),
        "decoder": Decoder(width, num_heads, layers[1], ffn_dim, **stacks),
        "num_classes": CLASSES,
        "queries": lambda width: LearnedQueries(width, num_queries=num_queries),
    }
    return DETR(**(arguments | other)).eval()


def hub_names(state: State) -> State:
    """As transformers named them before its version 5, in which `facebook/detr-resnet-50` is published."""
    renamed = {}
    for name, value in state.items():
        name = name.replace("backbone.model.", "backbone.conv_encoder.model.").replace("o_proj", "out_proj")
        renamed[name.replace("mlp.fc", "fc")] = value
        if name.endswith("downsample.1.running_mean"):
            renamed[name.replace("running_mean", "num_batches_tracked")] = torch.tensor(3)
    return renamed


FACEBOOK = {
    "encoder": {"self_attn_layer_norm": "norm1", "final_layer_norm": "norm2"},
    "decoder": {
        "self_attn_layer_norm": "norm1",
        "encoder_attn": "multihead_attn",
        "encoder_attn_layer_norm": "norm2",
        "final_layer_norm": "norm3",
    },
}


def facebook_names(state: State) -> State:
    """As facebookresearch/detr has them."""
    renamed = {}
    for name, value in state.items():
        if match := re.fullmatch(r"model\.(encoder|decoder)\.layers\.(\d+)\.(\w+)\.(?:(\w+)\.)?(weight|bias)", name):
            stack, layer, part, inner, end = match.groups()
            prefix = f"transformer.{stack}.layers.{layer}.{FACEBOOK[stack].get(part, part)}"
            if inner in ("k_proj", "v_proj"):
                continue
            if inner == "q_proj":
                three = [state[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
                renamed[f"{prefix}.in_proj_{end}"] = torch.cat(three)
            elif inner in ("fc1", "fc2"):
                renamed[f"transformer.{stack}.layers.{layer}.linear{inner[-1]}.{end}"] = value
            else:
                renamed[f"{prefix}.out_proj.{end}" if inner else f"{prefix}.{end}"] = value
            continue
        for theirs, published in [
            ("model.backbone.model.", "backbone.0.body."),
            ("model.decoder.layernorm.", "transformer.decoder.norm."),
            ("model.query_position_embeddings.", "query_embed."),
            ("model.input_projection.", "input_proj."),
            ("class_labels_classifier.", "class_embed."),
            ("bbox_predictor.", "bbox_embed."),
        ]:
            name = published + name.removeprefix(theirs) if name.startswith(theirs) else name
        renamed[name] = value
    return renamed


def saved(state: State, path: Path) -> str:
    if path.suffix == ".safetensors":
        save_file({name: value.contiguous() for name, value in state.items()}, path)
    else:
        torch.save({"model": state}, path)
    return str(path)


def assert_same_answers(mine: DETR, theirs: Any, *sizes: tuple[int, int]) -> None:
    image, padding = padded(*sizes)
    with torch.no_grad():
        expected = theirs(pixel_values=image, pixel_mask=(~padding).long())
        logits, boxes = mine(image, padding)
    for actual, published in ((logits, expected.logits), (boxes, expected.pred_boxes)):
        assert (published[0] - published[1]).abs().mean() > 1e-2  # or the pictures would not matter
        assert published.std(1).mean() > 3e-3  # or the queries would not
        torch.testing.assert_close(actual, published, atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def published() -> Any:
    return reference(**SMALL)


@pytest.fixture(scope="module")
def file(published, tmp_path_factory) -> str:
    return saved(published.state_dict(), tmp_path_factory.mktemp("published") / "model.safetensors")


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


SIZES = [(160, 96), (128, 224)]


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
def test_refusals_name_the_argument_and_both_values(file, arguments, message):
    size = {name: value for name, value in arguments.items() if name in SMALL and not isinstance(value, nn.Module)}
    other = {name: value for name, value in arguments.items() if name not in size}
    model = DETR(**(_parts() | other)) if "backbone" in other else ours(**(SMALL | size), **other)
    with pytest.raises(ValueError, match=message) as caught:
        load_pretrained(model, file)
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)


def _parts() -> dict[str, Any]:
    model = ours(**SMALL)
    queries = {"queries": lambda width: LearnedQueries(width, num_queries=9)}
    return {"encoder": model.encoder, "decoder": model.decoder, "num_classes": CLASSES, **queries}


@settings(max_examples=6, deadline=None)
@given(data=st.data(), change=st.sampled_from(["lost", "misnamed", "shape"]))
def test_one_tensor_that_is_wrong_is_named(file, published, tmp_path_factory, data, change):
    state = dict(published.state_dict())
    names = [name for name in state if not name.startswith("class_labels") and ".layers." in name]
    name = data.draw(st.sampled_from(names))
    value = state.pop(name)
    if change == "shape":
        state[name] = value[:-1]
    elif change == "misnamed":
        state[name.replace(".weight", ".wait").replace(".bias", ".bios")] = value
    path = tmp_path_factory.mktemp("wrong") / "model.pth"
    torch.save(state, path)
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

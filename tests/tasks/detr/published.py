"""Published DETRs, small, with random weights: under the names that each publisher gives them."""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import DetrConfig, DetrForObjectDetection

from core import Decoder, Encoder
from tasks.detr.backbone import TimmBackbone
from tasks.detr.model import DETR
from tasks.detr.queries import LearnedQueries
from tests.tasks.detr.helpers import padded

CONFIG = Path(__file__).parents[3] / "configs/detr/detr_r50_coco.yaml"
SMALL = {"backbone": "resnet18", "layers": (2, 3), "width": 32, "num_heads": 4, "ffn_dim": 48, "num_queries": 9}
CLASSES = 5
State = dict[str, Tensor]
SIZES = [(160, 96), (128, 224)]


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

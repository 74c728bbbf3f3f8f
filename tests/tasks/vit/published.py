"""Timm's models with random weights, ours in their size, and whether both say the same."""

from functools import partial
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from core import Encoder
from tasks.vit.model import ViT

TINY = {"embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 7, "img_size": 32, "patch_size": 8}
Settings = dict[str, Any]


def reference(name: str = "vit_tiny_patch16_224", **arguments) -> Any:
    """Timm's model with random values in every parameter, in those that start as zeros or ones too."""
    model = timm.create_model(name, **arguments).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_scale = "gamma" in name or ("norm" in name and name.endswith("weight"))
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1 + float(is_scale))
    return model


def tiny(**arguments) -> Any:
    return reference(**(TINY | arguments))


def ours(model: Any, pretrained: str | None, *, encoder: Settings | None = None, **arguments) -> ViT:
    """Our ViT in the size of timm's; the arguments change it."""
    block = model.blocks[0]
    encoder_arguments: Settings = {
        "embed_dim": model.embed_dim,
        "num_heads": block.attn.num_heads,
        "num_layers": len(model.blocks),
        "ffn_dim": block.mlp.fc1.out_features,
        "layer_scale": None if isinstance(block.ls1, nn.Identity) else 1e-5,
        "norm": partial(nn.LayerNorm, eps=1e-6),
    }
    vit_arguments: Settings = {
        "image_size": model.patch_embed.img_size,
        "num_channels": model.patch_embed.proj.in_channels,
        "num_classes": model.num_classes,
        "patch_size": model.patch_embed.patch_size[0],
        "num_register_tokens": model.num_prefix_tokens - int(model.global_pool == "token"),
        "pool": "class" if model.global_pool == "token" else "mean",
        "pretrained": pretrained,
    }
    return ViT(Encoder(**(encoder_arguments | (encoder or {}))), **(vit_arguments | arguments)).eval()


def saved(model: Any, path, **changes: Tensor) -> str:
    save_file({name: weight.contiguous() for name, weight in (model.state_dict() | changes).items()}, path)
    return str(path)


def image(height: int, width: int, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(1))


def assert_same_logits(mine: ViT, theirs: Any, picture: Tensor, tolerance: float = 1e-4) -> None:
    with torch.no_grad():
        expected, actual = theirs(picture), mine(picture)
    assert (expected[0] - expected[1]).std() > 100 * tolerance  # or the pictures would not matter
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)

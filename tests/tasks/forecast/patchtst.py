"""transformers' PatchTST with random weights, written as a file, and our model of the same sizes."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import PatchTSTConfig, PatchTSTForPrediction

from core import BatchNorm, Encoder
from tasks.forecast.model import Forecaster
from tasks.forecast.tokens import PatchTokens

CONTEXT, HORIZON, CHANNELS = 50, 12, 3


def published(folder: Path, *, norm: str = "batchnorm", pre_norm: bool = True, **changes) -> tuple[nn.Module, Path]:
    """A model whose weights and running statistics are all random, and its file."""
    torch.manual_seed(1)
    config = PatchTSTConfig(
        **{
            "num_input_channels": CHANNELS,
            "context_length": CONTEXT,
            "prediction_length": HORIZON,
            "patch_length": 8,
            "patch_stride": 4,
            "d_model": 16,
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "ffn_dim": 24,
            "norm_type": norm,
            "pre_norm": pre_norm,
            "pooling_type": None,
            "scaling": "std",
            "positional_encoding_type": "random",
            "loss": "mse",
        }
        | changes
    )
    model = PatchTSTForPrediction(config).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "norm_sublayer" in name and tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
            elif name.endswith(".bias"):
                tensor.normal_(std=0.1)
    file = folder / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, file)
    return model, file


def ours(file: Path | None, *, norm: str = "batchnorm", pre_norm: bool = True, **changes) -> Forecaster:
    makers = {"batchnorm": BatchNorm, "layernorm": nn.LayerNorm}
    sizes = {"embed_dim": 16, "num_heads": 4, "num_layers": 2, "ffn_dim": 24, "final_norm": False} | changes
    encoder = Encoder(**sizes, norm=makers[norm], norm_first=pre_norm)
    return Forecaster(
        encoder,
        context_length=CONTEXT,
        prediction_length=HORIZON,
        num_channels=CHANNELS,
        tokens=lambda shape, width: PatchTokens(shape, width, patch_length=8, stride=4),
        pretrained=None if file is None else str(file),
    ).eval()

"""The names of PatchTST's published encoders, as those of an `Encoder`: transformers' `PatchTSTModel`."""

import re
from collections.abc import Mapping

from torch import Tensor

from core.pretrained import detr

_PARTS = {"ff.0": "linear1", "ff.3": "linear2"}
_NORMS = {"1": "attention_residual", "3": "feedforward_residual"}


def encoder_weights(checkpoint: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Splits a checkpoint into the weights and statistics of `encoder`, under our names, and others, under their own.

    Such an encoder has no norm behind its last layer, whether its layers are pre-norm or post-norm: give ours
    `final_norm=False`.

    Args:
        checkpoint: Weights as transformers names them: `encoder.layers.0.ff.0.weight`, ...

    Returns:
        The weights of the encoder, and the others.

    >>> import torch
    >>> names = ["layers.1.norm_sublayer3.batchnorm.running_var", "layers.1.ff.3.bias", "embedder.input_embedding.bias"]
    >>> ours, others = encoder_weights({f"encoder.{name}": torch.ones(1) for name in names})
    >>> list(ours)
    ['encoder.layers.1.feedforward_residual.norm.running_var', 'encoder.layers.1.feedforward.linear2.bias']
    >>> list(others)
    ['encoder.embedder.input_embedding.bias']
    """
    norms, rest = {}, {}
    for name, weight in checkpoint.items():
        if match := re.fullmatch(r"(encoder\.layers\.\d+\.)norm_sublayer([13])\.(?:batchnorm\.)?(\w+)", name):
            norms[f"{match[1]}{_NORMS[match[2]]}.norm.{match[3]}"] = weight
        elif match := re.fullmatch(r"(encoder\.layers\.\d+\.)(ff\.[03])\.(\w+)", name):
            rest[f"{match[1]}{_PARTS[match[2]]}.{match[3]}"] = weight
        else:
            rest[name] = weight
    ours, others = detr.transformer_weights(rest)
    return norms | ours, others

"""Which parameters decay, which are frozen, and how fast each layer learns.

timm has the same grouping (`timm.optim.param_groups_layer_decay`); importing timm costs every `fit` 3 seconds before
its first step, which is why these few lines are our own.
"""

import re
from collections.abc import Callable, Iterable, Mapping

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.optim import Optimizer

OptimizerFactory = Callable[[Iterable], Optimizer]


def freeze_parts(model: nn.Module, prefixes: list[str]) -> None:
    """Excludes parameters from training.

    Args:
        model: The network.
        prefixes: Names of modules or parameters, as `encoder` or `encoder.layers.0`.

    Raises:
        ValueError: If a prefix names no parameter, or nothing is left to train.
    """
    names = dict(model.named_parameters())
    for prefix in prefixes:
        for name in parameters_called(prefix, names, "freeze"):
            names[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in names.values()):
        raise ValueError(f"freeze={prefixes} leaves nothing to train")


def rest_frozen_parts(model: nn.Module) -> None:
    """Puts every module of which nothing is trained into evaluation, so that it stays the function that it is.

    It then drops nothing, and a batch norm in it neither sees nor keeps the statistics of a batch.
    """
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def layer_of(name: str, num_layers: int) -> int:
    """The depth of a parameter: 0 for the embeddings, 1 to `num_layers` in the encoder, then what follows it."""
    match = re.match(r"encoder\.layers\.(\d+)\.", name)
    if match:
        return int(match[1]) + 1
    return num_layers + 1 if name.startswith(("encoder.", "head.")) else 0


def build_optimizer(
    model: nn.Module,
    factory: OptimizerFactory,
    *,
    layer_decay: float = 1.0,
    lr_scale: Mapping[str, float] | None = None,
) -> Optimizer:
    """Makes the optimiser with a group for each depth and part, those without weight decay apart.

    Only the matrices of linear maps and convolutions decay: biases, norms, scales, positions and learned tokens do
    not (timm, DeiT). A parameter at depth d of D learns at the rate times `layer_decay ** (D - d)` (BEiT; Bao et al.
    2022).

    Args:
        model: The network; frozen parameters are left out.
        factory: Makes the optimiser from parameter groups.
        layer_decay: Ratio of the rates of a layer and the next.
        lr_scale: Factors of the rate of parts, by their names' beginnings, as `{"backbone": 0.1}`.

    Raises:
        ValueError: If `layer_decay` is not in (0, 1], or `lr_scale` names no parameter or has a negative factor.
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay={layer_decay} is not in (0, 1]")
    lr_scale = lr_scale or {}
    for prefix, factor in lr_scale.items():
        if factor < 0:
            raise ValueError(f"lr_scale: {prefix}={factor} must not be negative")
        parameters_called(prefix, dict(model.named_parameters()), "lr_scale")
    num_layers = len(model.encoder.layers) if layer_decay < 1 else 0  # pyright: ignore
    matrices = {
        f"{module_name}.weight" if module_name else "weight"
        for module_name, module in model.named_modules()
        if isinstance(module, nn.Linear | _ConvNd)
    }
    groups: dict[tuple[float, bool], dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        depth = layer_of(name, num_layers) if layer_decay < 1 else num_layers + 1
        factor = layer_decay ** (num_layers + 1 - depth)
        for prefix, part in lr_scale.items():
            factor *= part if _is_part(name, prefix) else 1.0
        decays = name in matrices
        group = groups.setdefault((factor, decays), {"params": [], **({} if decays else {"weight_decay": 0.0})})
        group["params"].append(parameter)
    optimizer = factory(list(groups.values()))
    for (factor, _), group in zip(groups, optimizer.param_groups, strict=True):
        group["lr"] *= factor
    return optimizer


def parameters_called(prefix: str, names: Mapping[str, nn.Parameter], argument: str) -> list[str]:
    """The parameters that a module's or parameter's name covers.

    Raises:
        ValueError: If there is none.
    """
    if found := [name for name in names if _is_part(name, prefix)]:
        return found
    parts = ", ".join(dict.fromkeys(name.split(".")[0] for name in names))
    raise ValueError(f"{argument}: no parameter is called {prefix!r}; the parts are {parts}")


def _is_part(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")

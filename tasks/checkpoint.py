"""Our checkpoints carry the run's whole configuration and the data's facts; from them alone a model is rebuilt."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from tasks.base import TaskModule
from tasks.build import build
from tasks.errors import TaskError, first_line

EXPORTED = "model.safetensors"
"""The weights in the folder of an export; their header carries what a checkpoint of ours does beside its weights."""


def read_checkpoint(path: str | Path, task: str | None, argument: str = "--ckpt_path") -> dict[str, Any]:
    """Reads a checkpoint that a run of `task` wrote, or what `export` has made of one.

    Args:
        path: The file, or the folder of an export.
        task: Name of the task that must have written it; None = any.
        argument: What the file was given as, for the message.

    Raises:
        TaskError: If there is no such file, or it is no checkpoint of this task.
    """
    path = Path(path)
    if (path / EXPORTED).is_file():
        path = path / EXPORTED
    if not path.is_file():
        raise TaskError(f"{argument}={path}: there is no such file (a run keeps checkpoints/best.ckpt and last.ckpt)")
    try:
        if path.suffix == ".safetensors":
            checkpoint = _read_exported(path)
        else:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise TaskError(f"{argument}={path} is no readable checkpoint: {first_line(error)}") from error
    if not isinstance(checkpoint, dict) or "onecore" not in checkpoint or "state_dict" not in checkpoint:
        raise TaskError(
            f"{argument}={path} was not written by onecore; give its weights as --model.pretrained to start from them"
        )
    written_by = checkpoint["onecore"]["task"]
    if task is not None and written_by != task:
        raise TaskError(f"{argument}={path} is a checkpoint of {written_by!r}: use python -m tasks.{written_by}")
    return checkpoint


def is_exported(path: str | Path) -> bool:
    """Whether a path is what `export` wrote, which holds no state of a training."""
    return Path(path).suffix == ".safetensors" or (Path(path) / EXPORTED).is_file()


def _read_exported(path: Path) -> dict[str, Any]:
    """The weights and what the header says, as a checkpoint has them; `{}` where there is no such header."""
    with safe_open(path, framework="pt") as file:
        header = (file.metadata() or {}).get("onecore")
        if header is None:
            return {}
        return {"onecore": json.loads(header), "state_dict": {name: file.get_tensor(name) for name in file.keys()}}  # noqa: SIM118 - it is no mapping


def provenance_of(checkpoint: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """What is known of where a checkpoint's weights come from."""
    ours = checkpoint["onecore"]
    known = {"metrics": ours.get("metrics", {}), **ours.get("provenance", {})}
    return known if is_exported(path) else known | {"file": str(path)}


def check_shapes(module: nn.Module, checkpoint: dict[str, Any], config: dict[str, Any]) -> None:
    """Refuses a checkpoint whose tensors are not shaped as the module's.

    Args:
        module: What the weights are for.
        checkpoint: What `read_checkpoint` gave.
        config: The configuration that `module` was built from.

    Raises:
        TaskError: If a tensor has another shape, naming the arguments that differ with both values.
    """
    saved, built = checkpoint["state_dict"], module.state_dict()
    differing = differing_tensors(built, saved)
    if not differing:
        return
    name = differing[0]
    here, there = shape_of(built, name), shape_of(saved, name)
    changes = list(differences(config.get("model", {}), checkpoint["onecore"]["config"].get("model", {}), "model"))
    reason = "; ".join(f"--{key}={new}, but the checkpoint was trained with {old}" for key, new, old in changes)
    raise TaskError(
        f"{reason or 'the checkpoint does not fit this model'}: {len(differing)} tensors differ, "
        f"first {name.removeprefix('network.')} {here} against the checkpoint's {there}; "
        "leave such arguments out, or train anew"
    )


def differences(new: Any, old: Any, prefix: str) -> list[tuple[str, Any, Any]]:
    """Lists the leaves in which two nested configurations differ, as (dotted key, new value, old value)."""
    if isinstance(new, dict) and isinstance(old, dict):
        found = []
        for key in dict.fromkeys([*new, *old]):
            inner = prefix if key == "init_args" else f"{prefix}.{key}".removesuffix(".class_path")
            found += differences(new.get(key), old.get(key), inner)
        return found
    plain_new, plain_old = (list(value) if isinstance(value, tuple) else value for value in (new, old))
    return [] if plain_new == plain_old else [(prefix, new, old)]


def load(path: str | Path, module_class: type[TaskModule]) -> TaskModule:
    """Rebuilds the module of a run from its checkpoint, for use from Python.

    Args:
        path: The checkpoint.
        module_class: The task's module, as `tasks.vit.module.ViTModule`.

    Returns:
        The module in evaluation mode, weights loaded.

    Raises:
        TaskError: If the checkpoint is not one of this task.
    """
    checkpoint = read_checkpoint(path, module_class.task)
    module = rebuild(checkpoint, module_class)
    module.provenance = provenance_of(checkpoint, path)
    return module


def rebuild(checkpoint: dict[str, Any], module_class: type[TaskModule]) -> TaskModule:
    """Makes the module of what `read_checkpoint` gave, in evaluation mode, weights loaded."""
    module = build(module_class, checkpoint["onecore"]["config"], checkpoint["onecore"]["facts"])
    module.load_state_dict(checkpoint["state_dict"])
    module.config = checkpoint["onecore"]["config"]
    return module.eval()


def differing_tensors(built: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> list[str]:
    """The names of tensors that are not in both, or have two shapes."""
    return [name for name in {**saved, **built} if shape_of(saved, name) != shape_of(built, name)]


def shape_of(tensors: Mapping[str, Tensor], name: str) -> str:
    """A tensor's shape for a message, as `96x24`; `absent` where there is none of this name."""
    return "x".join(map(str, tensors[name].shape)) or "scalar" if name in tensors else "absent"

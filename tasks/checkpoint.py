"""Our checkpoints carry the run's whole configuration and the data's facts; from them alone a model is rebuilt."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tasks.base import TaskModule
from tasks.build import build
from tasks.errors import TaskError, first_line


def read_checkpoint(path: str | Path, task: str | None, argument: str = "--ckpt_path") -> dict[str, Any]:
    """Reads a checkpoint that a run of `task` wrote.

    Args:
        path: The file.
        task: Name of the task that must have written it; None = any.
        argument: What the file was given as, for the message.

    Raises:
        TaskError: If there is no such file, or it is no checkpoint of this task.
    """
    path = Path(path)
    if not path.is_file():
        raise TaskError(f"{argument}={path}: there is no such file (a run keeps checkpoints/best.ckpt and last.ckpt)")
    try:
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
    return rebuild(read_checkpoint(path, module_class.task), module_class)


def rebuild(checkpoint: dict[str, Any], module_class: type[TaskModule]) -> TaskModule:
    """Makes the module of what `read_checkpoint` gave, in evaluation mode, weights loaded."""
    module = build(module_class, checkpoint["onecore"]["config"], checkpoint["onecore"]["facts"])
    module.load_state_dict(checkpoint["state_dict"])
    return module.eval()


def differing_tensors(built: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> list[str]:
    """The names of tensors that are not in both, or have two shapes."""
    return [name for name in {**saved, **built} if shape_of(saved, name) != shape_of(built, name)]


def shape_of(tensors: Mapping[str, Tensor], name: str) -> str:
    """A tensor's shape for a message, as `96x24`; `absent` where there is none of this name."""
    return "x".join(map(str, tensors[name].shape)) or "scalar" if name in tensors else "absent"

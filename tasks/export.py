"""`python -m tasks.TASK export`: a network to give away, with all that others need to use it and to judge it."""

import copy
import importlib.util
import json
import shlex
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import yaml
from pytorch_lightning import Trainer
from torch import Tensor, nn

from tasks.base import ForExport, TaskModule
from tasks.checkpoint import EXPORTED, load
from tasks.errors import TaskError, first_line
from tasks.model_card import model_card
from tasks.run import keep_earlier, write_anew

ONNX = "model.onnx"
_TOLERANCE = 1e-3
"""What ONNX Runtime may differ by, as a share of the largest output."""


def export(
    trainer: Trainer,  # noqa: ARG001 - as every command's function is called
    model: TaskModule,
    datamodule: Any,
    *,
    output: str,
    onnx: bool = False,
) -> Path:
    """Writes the network to give away: weights, configuration, a model card, and ONNX if asked for.

    The folder has `model.safetensors`, whose header carries the configuration and the data's facts, so that
    `--ckpt_path FOLDER` works in the place of a checkpoint; `config.yaml`; `README.md`, the model card; and
    `model.onnx`. It is read again before the command ends, and must then compute the same. Where data lie on this
    machine is left out. Files of an earlier export are kept under another name.

    Args:
        trainer: Not used.
        model: The module.
        datamodule: Tells of which data the facts are.
        output: The folder to write to.
        onnx: Whether `model.onnx` is written too, which needs the extra `onnx`.

    Returns:
        The folder.

    Raises:
        TaskError: If what was written does not compute what the network does, or the extra is not installed.
    """
    if onnx and not importlib.util.find_spec("onnxscript"):
        raise TaskError("--onnx=true needs the packages of the extra `onnx`: pip install -e '.[onnx]'")
    folder = Path(output)
    model.eval()
    config = without_places(model.config)
    known = _provenance_to_give(model.provenance)
    header = {"task": model.task, "config": config, "facts": model.facts, "provenance": known}
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    write_anew(folder / EXPORTED, safetensors.torch.save(tensors, {"onecore": json.dumps(header)}))
    write_anew(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    exported = model.for_export()
    if onnx:
        try:
            _write_onnx(exported, folder / ONNX)
        except TaskError:
            raise
        except Exception as error:  # torch's exporter and ONNX Runtime have many of their own
            (folder / ONNX).unlink(missing_ok=True)
            raise TaskError(f"--onnx=true: this network cannot be written as ONNX ({first_line(error)})") from error
    files = [EXPORTED, "config.yaml", *[ONNX] * onnx]
    write_anew(folder / "README.md", model_card(model, known, type(datamodule), exported, files=files))
    _compare(exported, load(folder, type(model)).for_export().network, folder)
    return folder


def without_places(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without the folders of this machine."""
    shown = copy.deepcopy(dict(config))
    data = shown.get("data", {}).get("init_args", {})
    for name, value in data.items():
        if isinstance(value, str) and Path(value).is_absolute():
            data[name] = None
    return shown


def _provenance_to_give(known: Mapping[str, Any]) -> dict[str, Any]:
    """With the metrics of the run where that lies beside the checkpoint, and without the places of this machine."""
    given = {name: value for name, value in known.items() if name != "file"}
    metrics, file = dict(known.get("metrics", {})), Path(known.get("file", ""))
    beside = file.parent.parent / "metrics.json"
    if file.name == "best.ckpt" and beside.is_file():
        metrics |= json.loads(beside.read_text(encoding="utf-8"))
    commands = [shlex.join(map(_without_place, shlex.split(command))) for command in known.get("commands", [])]
    return {**given, "metrics": metrics, "commands": commands}


def _without_place(word: str) -> str:
    """A word of a command line, FOLDER for a path from the root.

    >>> _without_place("--data.root=/home/me/data"), _without_place("--data.fill=mask")
    ('--data.root=FOLDER', '--data.fill=mask')
    """
    name, is_given, value = word.rpartition("=")
    return f"{name}{is_given}FOLDER" if Path(value).is_absolute() else word


@torch.no_grad()
def _compare(exported: ForExport, again: nn.Module, folder: Path) -> None:
    pairs = zip(*(outputs_of(each, exported.inputs) for each in (exported.network, again)), strict=True)
    if not all(torch.equal(here, there) for here, there in pairs):
        raise TaskError(f"{folder / EXPORTED} does not compute what the network does: it is damaged, do not use it")


def outputs_of(network: nn.Module, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """The tensors that a network gives, in order, in evaluation mode."""
    output = network.eval()(**inputs)
    return [output] if isinstance(output, Tensor) else list(output)


def _write_onnx(exported: ForExport, file: Path) -> None:
    """Writes the network with its free axes, and holds what ONNX Runtime gives against it at other lengths."""
    import onnxruntime

    file.parent.mkdir(parents=True, exist_ok=True)
    keep_earlier(file)
    network, inputs, free = exported
    axes = {name: torch.export.Dim(name) for names in free.values() for name in names}
    shapes = {name: {number: axes[axis] for number, axis in enumerate(free[name])} for name in inputs}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        options: dict[str, Any] = {"dynamo": True, "external_data": False, "verbose": False}
        options["custom_translation_table"] = {torch.ops.aten.sort.stable: _stable_sort}
        torch.onnx.export(network.eval(), (), str(file), kwargs=inputs, dynamic_shapes=shapes, **options)
        session = onnxruntime.InferenceSession(str(file))
        for times in (1, 3):
            fed = {name: _repeated(each[:1], times, len(free[name])) for name, each in inputs.items()}
            found = session.run(None, {name: each.numpy() for name, each in fed.items()})
            for here, there in zip(outputs_of(network, fed), found, strict=True):
                apart = float((here - torch.from_numpy(there)).abs().max() / here.abs().max().clamp(min=1e-12))
                if not apart <= _TOLERANCE:
                    raise TaskError(f"{file} differs from the network by {apart:.2g} of its outputs: do not use it")


def _stable_sort(values: Any, *, stable: bool | None, dim: int = -1, descending: bool = False) -> Any:  # noqa: ARG001
    """A stable sort as ONNX's TopK of all values, which gives equal ones in their order; torch has no translation."""
    import onnxscript

    op: Any = onnxscript.opset18
    count = op.Gather(op.Shape(values), op.Constant(value_ints=[dim]))
    return op.TopK(values, count, axis=dim, largest=int(descending), sorted=1)


def _repeated(tensor: Tensor, times: int, axes: int) -> Tensor:
    """A tensor so many times along each of the first axes."""
    return tensor.repeat(*(times if axis < axes else 1 for axis in range(tensor.dim())))

"""Transfer between tasks: the core's encoder starts as that of another run, of any modality (Lu et al. 2021).

"Pretrained Transformers as Universal Computation Engines": what a Transformer has learnt from one modality serves
another, its inputs' embedding and its head being new. Here every task's network holds its encoder as `encoder`, an
`core.Encoder`; so its weights stand under the same names in the checkpoints of all tasks.
"""

import json
import logging
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from core import Encoder
from tasks.build import TaskParser
from tasks.checkpoint import differences, differing_tensors, read_checkpoint, shape_of
from tasks.errors import TaskError, UsageError
from tasks.mistakes import explain
from tasks.weights import of_mechanism

_log = logging.getLogger(__name__)
_ARGUMENT = "--model.encoder_from"
_SHUFFLE = "--model.shuffle_encoder"
_OF_TRAINING = ("dropout", "drop_path", "checkpoint_activations")
"""Arguments of the encoder that change how it is trained, not what its weights compute."""


def take_encoder(network: nn.Module, model: dict[str, Any]) -> None:
    """Starts a network's encoder as `encoder_from` says, if it says anything.

    Args:
        network: Changed in place.
        model: The network's resolved configuration, in which the file that was read is then noted.

    Raises:
        TaskError: If there is no checkpoint of ours, or its encoder is not the network's.
        UsageError: If nothing is named that could be shuffled.
    """
    given = model["encoder_from"]
    if not given:
        if model["shuffle_encoder"]:
            raise UsageError(f"{_SHUFFLE}=true shuffles what {_ARGUMENT} names: give both, or neither")
        return
    file = _find_checkpoint(Path(given).expanduser().absolute(), given)
    checkpoint = read_checkpoint(file, None, _ARGUMENT)
    task, saved = checkpoint["onecore"]["task"], checkpoint["onecore"]["config"]["model"].get("encoder")
    if saved is None:
        raise TaskError(f"{_ARGUMENT}={given}: a network of tasks.{task} has no encoder")
    _check_arguments(model["encoder"], saved, given)
    weights = {
        name.removeprefix("network.encoder."): tensor
        for name, tensor in checkpoint["state_dict"].items()
        if name.startswith("network.encoder.")
    }
    encoder: nn.Module = network.encoder  # pyright: ignore[reportAssignmentType]
    _check_tensors(encoder.state_dict(), weights, _mechanism(model["encoder"]), _mechanism(saved), given)
    encoder.load_state_dict(_shuffled(weights) if model["shuffle_encoder"] else weights)
    model["encoder_from"] = str(file)
    _log.info(
        "encoder: %d tensors of %d numbers from %s, a run of tasks.%s%s%s; everything else starts afresh",
        len(weights),
        sum(tensor.numel() for tensor in weights.values()),
        file,
        task,
        ", shuffled" if model["shuffle_encoder"] else "",
        ", frozen" if model["freeze_encoder"] else "",
    )


def keep_encoder(model: dict[str, Any], saved: dict[str, Any], *, resumes: bool) -> None:
    """Notes where the encoder of a checkpoint came from; that other run is not read again.

    Args:
        model: The network's resolved configuration.
        saved: That of the checkpoint.
        resumes: Whether the checkpoint's training goes on.

    Raises:
        UsageError: If an encoder is asked for that the checkpoint's own would replace, or what is frozen changes amid
            a training, whose optimiser has no place for it.
    """
    given, earlier = model["encoder_from"], saved.get("encoder_from")
    shuffled, was_shuffled = model["shuffle_encoder"], saved.get("shuffle_encoder", False)
    if given and not (earlier and Path(earlier).is_relative_to(Path(given).expanduser().absolute())):
        raise UsageError(f"{_ARGUMENT}={given}: --ckpt_path has an encoder of its own; leave one of the two out")
    if shuffled and not was_shuffled:
        raise UsageError(f"{_SHUFFLE}=true: --ckpt_path has an encoder of its own; leave one of the two out")
    frozen, was_frozen = model["freeze_encoder"], saved.get("freeze_encoder", False)
    if resumes and frozen != was_frozen:
        raise UsageError(
            f"--model.freeze_encoder={str(frozen).lower()}, but the run that goes on has {str(was_frozen).lower()}: "
            "leave it out, or start another run with --model.pretrained in place of --ckpt_path"
        )
    model["encoder_from"], model["shuffle_encoder"] = earlier, was_shuffled


def _shuffled(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor's numbers in another order, from the seed; the generator of all else is not touched."""
    generator = torch.Generator().manual_seed(torch.initial_seed())
    return {
        name: tensor.flatten()[torch.randperm(tensor.numel(), generator=generator)].view_as(tensor)
        for name, tensor in weights.items()
    }


def _find_checkpoint(path: Path, given: str) -> Path:
    """The file itself, or a run's best checkpoint, else its last."""
    if not path.is_dir():
        return path
    kept = [path / "checkpoints" / name for name in ("best.ckpt", "last.ckpt")]
    for file in kept:
        if file.is_file():
            return file
    raise TaskError(f"{_ARGUMENT}={given}: the folder is no run's, it has no checkpoints/best.ckpt and no last.ckpt")


def _check_arguments(own: dict[str, Any], saved: dict[str, Any], given: str) -> None:
    """Refuses in one line all arguments in which two encoders are not the same function of their weights."""
    try:
        old_arguments = _compared(saved)
    except UsageError as error:
        reason = explain(str(error), TaskParser(), [], {})
        raise TaskError(f"{_ARGUMENT}={given}: the run's encoder cannot be made here: {reason}") from error
    differing = {name: values for name, *values in differences(_compared(own), old_arguments, "encoder")}
    if None not in differing.get("encoder.layer_scale", [None]):
        del differing["encoder.layer_scale"]  # its values are taken over: only whether there are some must agree
    classes = {*differing} - {"encoder"}  # of two classes the names say enough
    wrong = [
        f"{name}={_written(new)}, but the run has {_written(old)}"
        for name, (new, old) in differing.items()
        if name.rpartition(".")[0] not in classes
    ]
    if wrong:
        raise TaskError(f"{_ARGUMENT}={given}: does not fit: {'; '.join(wrong)}")


def _compared(encoder: dict[str, Any]) -> dict[str, Any]:
    """An encoder's configuration as today's parser has it, without what may differ and with what None stands for."""
    encoder = encoder | {"init_args": {k: v for k, v in encoder["init_args"].items() if k != "attention"}}
    parser = TaskParser()
    parser.add_subclass_arguments(Encoder, "encoder")
    filled = yaml.safe_load(parser.dump(parser.parse_object({"encoder": encoder})))["encoder"]
    init = {k: v for k, v in filled["init_args"].items() if k not in (*_OF_TRAINING, "attention")}
    if init.get("ffn_dim") is None:
        init["ffn_dim"] = 4 * init["embed_dim"]
    if init.get("final_norm") is None:
        init["final_norm"] = init["norm_first"]
    return {"class_path": filled["class_path"], "init_args": init}


def _written(value: Any) -> str:
    """A value for a message: of a class with its arguments the name, and as YAML has it otherwise."""
    return value["class_path"] if isinstance(value, dict) else json.dumps(value).strip('"')


def _mechanism(encoder: dict[str, Any]) -> str:
    """The name of an encoder's attention mechanism."""
    attention = encoder["init_args"]["attention"]
    return str(attention["class_path"] if isinstance(attention, dict) else attention).rpartition(".")[2]


def _check_tensors(own: dict[str, Tensor], saved: dict[str, Tensor], mechanism: str, theirs: str, given: str) -> None:
    """Refuses weights of other names or shapes, which encoders of equal arguments have by their mechanisms only."""
    wrong = differing_tensors(own, saved)
    if not wrong:
        return
    reason = f"{len(wrong)} tensors differ"
    if all(of_mechanism(name) for name in wrong):
        reason = f"encoder.attention={mechanism}, whose parameters are not those of the run's {theirs}"
    raise TaskError(
        f"{_ARGUMENT}={given}: does not fit: {reason}: encoder.{wrong[0]} is {shape_of(own, wrong[0])} here and "
        f"{shape_of(saved, wrong[0])} there"
    )

"""From a configuration to a network and its module; the parser that both the command line and checkpoints use."""

from dataclasses import dataclass, fields
from typing import Any

from pytorch_lightning.cli import LightningArgumentParser

from tasks.base import TaskModule
from tasks.errors import UsageError
from tasks.optim import freeze_parts


@dataclass(frozen=True)
class EncoderStart:
    """Where the core's encoder of any network starts, and whether it learns: arguments beside the network's own.

    Args:
        encoder_from: The run, or the checkpoint of ours, of whichever task, whose encoder this one starts as: a run's
            folder (its best.ckpt, else last.ckpt) or a file. Its arguments must be those of the run, but for dropout,
            stochastic depth and what remembers activations; its attention may be another one, if that has the same
            parameters. The rest of the network starts afresh (Lu et al. 2021).
        shuffle_encoder: Shuffles the numbers of `encoder_from` within each of its tensors, as the seed says: how large
            they are stays, what was learnt goes. The control that tells what a start owes to which of the two.
        freeze_encoder: Keeps the encoder as it starts, be that random, `encoder_from` or `pretrained`: none of it is
            trained, its norms included, and it works as in evaluation, without dropout and by the statistics that a
            batch norm has.
    """

    encoder_from: str | None = None
    shuffle_encoder: bool = False
    freeze_encoder: bool = False


class TaskParser(LightningArgumentParser):
    """A parser that raises what is wrong, for `TaskCLI` to explain, and guesses no abbreviated names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Raises where the parent prints and leaves the process."""
        raise UsageError(message) from ex

    def instantiate_classes(self, cfg: Any, **kwargs: Any) -> Any:
        """Makes what is configured; of `EncoderStart`, which no network's own class takes, only the freezing is done.

        The weights of `encoder_from` are loaded where a run starts (`tasks.transfer`), and never for a checkpoint.
        """
        if "model.encoder_from" not in cfg:
            return super().instantiate_classes(cfg, **kwargs)
        cfg = cfg.clone()
        start = EncoderStart(**{field.name: cfg["model"].pop(field.name) for field in fields(EncoderStart)})
        if start.encoder_from and cfg["model"].get("pretrained"):
            raise UsageError(
                f"--model.encoder_from={start.encoder_from} and --model.pretrained={cfg['model']['pretrained']} both "
                "say what the encoder starts as: leave one of them out"
            )
        made = super().instantiate_classes(cfg, **kwargs)
        if start.freeze_encoder:
            freeze_parts(made["model"], ["encoder"])
        return made


def add_model_arguments(parser: LightningArgumentParser, module_class: type[TaskModule]) -> None:
    """Adds `model.*`, the network's arguments and those of `EncoderStart`, and `training.*`, the module's."""
    parser.add_class_arguments(module_class.network_class, "model", sub_configs=True)
    for field in fields(EncoderStart):
        parser.add_argument(f"--model.{field.name}", type=field.type, default=field.default)
    parser.add_class_arguments(module_class, "training", skip={"network", "facts"}, instantiate=False, sub_configs=True)


def build(module_class: type[TaskModule], config: dict[str, Any], facts: dict[str, Any]) -> TaskModule:
    """Builds a task's module from a resolved configuration, without any data.

    Args:
        module_class: The task's module.
        config: Has `model` and `training`; no `pretrained` weights are loaded again.
        facts: What the data knew.
    """
    parser = TaskParser()
    add_model_arguments(parser, module_class)
    model = without_pretrained(config["model"])
    init = parser.instantiate_classes(parser.parse_object({"model": model, "training": config["training"]}))
    return module_class(init["model"], facts=facts, **init["training"])


def without_pretrained(config: Any) -> Any:
    """A network's configuration without weights to start from, in its parts too: they come from a checkpoint."""
    if not isinstance(config, dict):
        return config
    nothing = {bool: False, str: None}
    return {
        name: nothing.get(type(value), value) if name in ("pretrained", "encoder_from") else without_pretrained(value)
        for name, value in config.items()
    }

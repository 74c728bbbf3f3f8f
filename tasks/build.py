"""From a configuration to a network and its module; the parser that both the command line and checkpoints use."""

from typing import Any

from pytorch_lightning.cli import LightningArgumentParser

from tasks.base import TaskModule
from tasks.errors import UsageError


class TaskParser(LightningArgumentParser):
    """A parser that raises what is wrong, for `TaskCLI` to explain, and guesses no abbreviated names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Raises where the parent prints and leaves the process."""
        raise UsageError(message) from ex


def add_model_arguments(parser: LightningArgumentParser, module_class: type[TaskModule]) -> None:
    """Adds `model.*`, the network's arguments, and `training.*`, the module's."""
    parser.add_class_arguments(module_class.network_class, "model", sub_configs=True)
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
        name: nothing.get(type(value), value) if name == "pretrained" else without_pretrained(value)
        for name, value in config.items()
    }

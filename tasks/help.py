"""Writes the help of each task, from the signatures and docstrings of its classes: `python -m tasks.help`.

The texts are shipped, so that `--help` need not import Lightning; a test holds them against the real parser.
"""

import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import asdict, is_dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import docstring_parser
import yaml

from tasks.base import TaskModule
from tasks.build import EncoderStart
from tasks.catalogue import TASKS, import_object
from tasks.commands import commands_of
from tasks.docstrings import summary
from tasks.sweep.arguments import EXPLAINED, SUMMARY, parser

COMMANDS = {
    "fit": "Trains, then tests the best checkpoint.",
    "validate": "Measures a checkpoint on the validation part of the data.",
    "test": "Measures a checkpoint on the test part of the data.",
    "predict": "Applies a checkpoint to files.",
}
CHECKS_DATA = {"detr": "Looks the data over: counts, sizes, and what is wrong with which file."}
"""The tasks with a command `check-data`."""

_TRAINER = """\
trainer: any argument of pytorch_lightning.Trainer, as
  --trainer.max_epochs=N  --trainer.max_steps=N  --trainer.accelerator=cpu|gpu|auto  --trainer.devices=N
  --trainer.precision=32|bf16-mixed|16-mixed  --trainer.gradient_clip_val=X  --trainer.accumulate_grad_batches=N
  --trainer.limit_train_batches=N  --trainer.enable_progress_bar=false  --trainer.logger=CLASS
  --trainer.callbacks+=CLASS
"""


def help_texts(task: str) -> dict[str, str]:
    """The help of a task and of each of its commands, by the name of the file that holds it."""
    default = TASKS[task].default
    module_class = TASKS[task].module_class
    config = yaml.safe_load(TASKS[task].config.read_text(encoding="utf-8"))
    texts = {"overview": _overview(task, module_class, default)}
    data = import_object(config["data"]["class_path"])
    about_data = ["", *_group("data", data, config["data"].get("init_args", {}), set())]
    about_data += [
        "  Other data sets, by --data=NAME: " + ", ".join(n for n in _data_sets() if n != data.__name__) + "."
    ]
    for command, purpose in _commands(module_class).items():
        lines = [f"usage: python -m tasks.{task} {command} [--name=value ...]", "", purpose, ""]
        lines += _command_arguments(command, default, module_class)
        if command == "fit":
            lines += ["", "The data's facts set " + ", ".join(f"model.{fact}" for fact in module_class.links) + "."]
        else:
            lines += ["", "What is not given is as in the checkpoint; what is given wins over it."]
        skip = set(module_class.links) if command == "fit" else set()
        lines += ["", *_group("model", module_class.network_class, config["model"], skip, EncoderStart)]
        lines += ["", *_group("training", module_class, config["training"], {"network", "facts"})]
        texts[command] = "\n".join([*lines, *about_data, "", _TRAINER])
    texts["sweep"] = _sweep(task, default)
    if task in CHECKS_DATA:
        lines = [f"usage: python -m tasks.{task} check-data [--name=value ...]", "", CHECKS_DATA[task], ""]
        lines += _entry("--config FILE", f"Where the data are described. Default: configs/{default}.")
        texts["check-data"] = "\n".join([*lines, *about_data, ""])
    return texts


def _commands(module_class: type[TaskModule]) -> dict[str, str]:
    """What each command that takes a network does: those of every task, and the task's own."""
    return COMMANDS | {name: summary(function) for name, function in commands_of(module_class).items()}


def _overview(task: str, module_class: type[TaskModule], default: str) -> str:
    every = {
        **_commands(module_class),
        "sweep": SUMMARY,
        **({"check-data": CHECKS_DATA[task]} if task in CHECKS_DATA else {}),
    }
    commands = "\n".join(f"  {name:<12}{text}" for name, text in every.items())
    return (
        f"usage: python -m tasks.{task} COMMAND [--name=value ...]\n\n{summary(module_class)}\n\n"
        f"commands:\n{commands}\n\n"
        f"`fit` needs no argument: it runs configs/{default}; `sweep` needs --trials and --space. The others\n"
        f"need --ckpt_path; those that write elsewhere --output, those that read files of yours --input.\n"
        f"`python -m tasks.{task} COMMAND --help` lists all arguments.\n"
    )


def _command_arguments(command: str, default: str, module_class: type[TaskModule]) -> list[str]:
    arguments = {
        "--config FILE": "An experiment in YAML; where repeated, the later wins."
        + (f" Default: configs/{default}." if command == "fit" else ""),
        "--print_config": "Prints the configuration as YAML and stops.",
        "--ckpt_path FILE": "Goes on from this checkpoint."
        if command == "fit"
        else "The checkpoint of a run; for published weights give --config and --model.pretrained in its place.",
        "--seed_everything INT": "Seed of all randomness.",
    }
    if command == "predict":
        arguments |= {"--input PATH": "A file, or a folder of files.", "--output FOLDER": "Where predictions go."}
    elif command in commands_of(module_class):
        arguments |= _own_arguments(commands_of(module_class)[command])
    else:
        arguments["--runs FOLDER"] = "Where the run's folder is made. Default: runs."
    return [line for name, text in arguments.items() for line in _entry(name, text)]


def _sweep(task: str, default: str) -> str:
    lines = [f"usage: python -m tasks.{task} sweep --trials N --space NAME=VALUES [--name=value ...]", "", SUMMARY, ""]
    for action in parser(task)._actions:
        choices = None if action.choices is None else "|".join(action.choices)
        default_value = "" if action.default in (None, []) else f" Default: {action.default}."
        lines += _entry(f"{action.option_strings[0]} {action.metavar or choices}", f"{action.help}{default_value}")
    lines += ["", EXPLAINED, f"All other arguments are those of `fit`, as --config FILE (default: configs/{default}),"]
    lines += [f"--data.root or --trainer.max_epochs: see `python -m tasks.{task} fit --help`.", ""]
    return "\n".join(lines)


def _own_arguments(function: Callable[..., Any]) -> dict[str, str]:
    """The arguments of a task's own command: all but what the command line gives it."""
    documented = {
        entry.arg_name: entry.description or "" for entry in docstring_parser.parse_from_object(function).params
    }
    arguments = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name not in ("trainer", "model", "datamodule"):
            shown = "" if parameter.default is parameter.empty else f" Default: {_show(parameter.default)}."
            text = " ".join(documented[parameter.name].split())
            arguments[f"--{parameter.name} {_show_type(parameter.annotation)}"] = text + shown
    return arguments


def _group(prefix: str, cls: type, values: dict[str, Any], skip: set[str], *beside: type) -> list[str]:
    """A class's arguments and those of other classes beside it, and those of the classes that its arguments hold."""
    if cls.__module__.split(".")[0] not in ("core", "tasks", "datamodules"):
        given = ", ".join(f"{name}={_show(value)}" for name, value in values.items())
        return [
            f"{prefix}: any argument of {cls.__module__.removesuffix('.' + cls.__name__.lower())}.{cls.__name__}"
            + (f" (here {given})" if given else "")
        ]
    lines = [f"{prefix}: {summary(cls)} ({cls.__name__})"]
    nested: list[str] = []
    for name, annotation, default, text in chain.from_iterable(map(_parameters, (cls, *beside))):
        if name in skip:
            continue
        value = values.get(name, default)
        if isinstance(annotation, type) and is_dataclass(annotation):
            given = value if isinstance(value, dict) else asdict(value)
            nested += ["", *_group(f"{prefix}.{name}", annotation, given, set())]
            continue
        if isinstance(value, dict) and "class_path" in value:
            inner = import_object(value["class_path"])
            filled = {"optimizer", "total_steps"} if name == "schedule" else set()
            nested += ["", *_group(f"{prefix}.{name}", inner, value.get("init_args", {}), filled)]
            value = inner.__name__
        shown = "" if value is inspect.Parameter.empty else f" Default: {_show(value)}."
        lines += _entry(f"--{prefix}.{name} {_show_type(annotation)}", text + shown)
    return lines + nested


def _parameters(cls: type) -> Iterator[tuple[str, Any, Any, str]]:
    """Name, type, default and description of each argument, those that `**kwargs` hands to the parent included."""
    documented = {entry.arg_name: entry.description or "" for entry in docstring_parser.parse(cls.__doc__ or "").params}
    for parameter in list(inspect.signature(cls.__init__).parameters.values())[1:]:
        if parameter.kind is parameter.VAR_KEYWORD:
            own = {*inspect.signature(cls.__init__).parameters}
            yield from (entry for entry in _parameters(cls.__mro__[1]) if entry[0] not in own)
        else:
            text = " ".join(documented.get(parameter.name, "").split())
            yield parameter.name, parameter.annotation, parameter.default, text


def _show_type(annotation: Any) -> str:
    text = (
        annotation.__name__ if isinstance(annotation, type) and not hasattr(annotation, "__args__") else str(annotation)
    )
    text = re.sub(r"\w+(?:\.\w+)*\.(\w+)", r"\1", text).replace(" | None", "").replace("Callable", "CLASS")
    text = re.sub(r"CLASS\[.*\]", "CLASS", text)
    return re.sub(r"Literal\[(.*)\]", lambda match: match[1].replace("'", "").replace(", ", "|"), text).upper()


def _show(value: Any) -> str:
    """A value as YAML has it, a class by its name."""
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return ", ".join(entry["class_path"].rpartition(".")[2] for entry in value)
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _entry(name: str, text: str) -> list[str]:
    return [f"  {name}", *textwrap.wrap(text, 100, initial_indent=" " * 8, subsequent_indent=" " * 8)]


def _data_sets() -> list[str]:
    return sorted(importlib.import_module("datamodules").__all__)


def main() -> int:
    """Writes the help of every task beside its code."""
    for task in TASKS:
        folder = Path(__file__).parent / task / "help"
        folder.mkdir(exist_ok=True)
        for name, text in help_texts(task).items():
            (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Turns what the parser says of a wrong command line or config into one line with the nearest valid name."""

import difflib
import importlib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from pytorch_lightning import Callback, LightningDataModule
from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.loggers import Logger
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tasks.catalogue import import_object

_BASES = (LightningDataModule, Callback, Logger, Optimizer, LRScheduler, nn.Module)


def explain(message: str, parser: LightningArgumentParser, args: list[str], config: dict[str, Any]) -> str:
    """Says in one line what is wrong and what was probably meant.

    Args:
        message: What jsonargparse said, over many lines.
        parser: The parser of the command.
        args: The command line.
        config: The configuration as far as it is known, whose classes tell which arguments exist.
    """
    text = " ".join(message.split())
    key = _full_key(re.findall(r'Parser key "([\w.]+)"', text), args)
    if match := re.search(r"unrecognized arguments: (\S+)", text):
        if not match[1].startswith("-"):
            return f"{match[1]!r} is not expected; arguments have the form --name=value"
        name = match[1].split("=")[0]
        return f"there is no argument {name}{_nearest(name, _options(parser, config))}"
    if match := re.search(r"does not accept option '([\w.]+)'", text):
        nearest = _nearest("--" + match[1], _options(parser, config))
        return f"a config has the key {match[1]!r}, which does not exist{nearest}"
    if match := re.search(r"Option '([\w.]+)' is not accepted", text):
        full = next((arg.split("=")[0] for arg in args if arg.split("=")[0].endswith("." + match[1])), None)
        if full is None:
            return f"{key}: a config has the key {match[1]!r}, which does not exist" + _nearest(
                match[1], (option.rpartition(".")[2] for option in _options(parser, config))
            )
        return f"there is no argument {full}{_nearest(full, _options(parser, config))}"
    if match := re.search(r"Problem with given class_path '([\w.]+)': (.+?)(?: - Expected a| Given value|$)", text):
        return _bad_class(match[1], match[2], key)
    if match := re.search(r"Expected a dot import path string: (\S+)", text):
        names = {cls.__name__ for base in _BASES for cls in _subclasses(base)}
        return f"{key}={match[1]}: there is no such class{_nearest(match[1], names)}"
    if match := re.search(r"Expected a typing\.Literal\[(.+?)\]\. Got value: (.*)$", text):
        choices = re.findall(r"'([^']*)'", match[1])
        return f"{key}={match[2]} is not one of {', '.join(choices)}{_nearest(match[2], choices)}"
    if "Union subtypes" in text and (match := re.search(r"Given value: (\S+)", text)):
        types = re.findall(r"Expected a <class '([\w.]+)'>", text[: match.start()])
        return f"{key}={match[1]} is not of the type {' or '.join(t for t in types if t != 'NoneType')}"
    if match := re.search(r"Expected an? (?:<class ')?(.+?)(?:'>)?\. Got value: (.*)$", text):
        return f"{key}={match[2]} is not of the type {match[1]}"
    if match := re.search(r"File does not exist: '?([^']+)'?", text):
        return f"--{key or 'config'}={match[1]}: there is no such file"
    return text


def find_null(value: Any, place: str = "") -> str | None:
    """Says in one line which argument of a class is null and may not be: the parser lets it be, whatever its type.

    Args:
        value: A configuration as plain values.
        place: Where it stands in the whole one.
    """
    if not isinstance(value, dict):
        return None
    nested: dict[str, Any] = value
    if "class_path" in value:
        nested = value.get("init_args") or {}
        types = _never_null(value["class_path"])
        for name, given in nested.items():
            if given is None and name in types:
                return f"{place}.{name}=null is not of the type {types[name]}"
    places = ((f"{place}.{name}".lstrip("."), inner) for name, inner in nested.items())
    return next((found for where, inner in places if (found := find_null(inner, where))), None)


def _never_null(class_path: str) -> dict[str, str]:
    """The types of a class's arguments that neither are None by default nor may be."""
    return {
        name: getattr(each.annotation, "__name__", str(each.annotation))
        for name, each in _parameters(class_path, evaluated=True).items()
        if each.annotation not in (Any, each.empty)
        and type(None) not in (each.annotation, *get_args(each.annotation))
        and each.default is not None
    }


def _full_key(keys: list[str], args: list[str]) -> str:
    """The argument that nested keys, outermost first, stand for: as the command line has it where it has it."""
    if not keys:
        return ""
    names = [arg.split("=")[0].lstrip("-") for arg in args if arg.startswith("--")]
    fitting = [name for name in names if name.startswith(keys[0]) and name.endswith(keys[-1])]
    return fitting[-1] if fitting else keys[0] if len(keys) == 1 else f"{keys[0]}...{keys[-1]}"


def _bad_class(path: str, reason: str, key: str) -> str:
    """A class path that leads nowhere, or to a module that cannot be imported."""
    if "Parser key" in reason:
        return f"{key}: {path}: {reason}"
    module, _, name = path.rpartition(".")
    missing = re.search(r"No module named '([\w.]+)'", reason)
    if missing and not f"{module}.".startswith(missing[1] + "."):
        return f"{key}={path}: importing it failed, No module named {missing[1]!r}: install what it needs"
    if "has no attribute" in reason:
        try:
            names = dir(importlib.import_module(module))
        except ImportError:
            names = []
        return f"{key}={path}: {reason}{_nearest(name, names)}"
    return f"{key}={path}: {reason}"


def _nearest(word: str, candidates: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, sorted(set(candidates)), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _options(parser: LightningArgumentParser, config: dict[str, Any]) -> Iterator[str]:
    """Every option of the parser, and those of the classes that a configuration names."""
    yield from (option for option in parser._option_string_actions if option.startswith("--"))
    yield from _nested_options("--", config)


def _nested_options(prefix: str, value: Any) -> Iterator[str]:
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        if key == "init_args":
            yield from _nested_options(prefix, inner)
        elif key == "class_path":
            yield from (prefix + name for name in _parameters(inner))
        else:
            yield from _nested_options(f"{prefix}{key}.", inner)


def _parameters(class_path: str, *, evaluated: bool = False) -> Mapping[str, inspect.Parameter]:
    """A class's arguments, none if they cannot be read; `evaluated`, where an annotation that is a text counts."""
    try:
        return inspect.signature(import_object(class_path), eval_str=evaluated).parameters
    except (ImportError, AttributeError, ValueError, NameError, TypeError):
        return {}


def _subclasses(base: type) -> Iterator[type]:
    for cls in base.__subclasses__():
        yield cls
        yield from _subclasses(cls)

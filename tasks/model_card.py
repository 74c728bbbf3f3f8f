"""The model card of an exported network (Mitchell et al. 2019, "Model Cards for Model Reporting")."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml
from torch import nn

from tasks.base import ForExport, TaskModule
from tasks.docstrings import summary

_NOT_KNOWN = "not known: the checkpoint was written before onecore kept it"
_MOST = 20
"""Names of a list that are shown."""


def model_card(
    model: TaskModule, known: Mapping[str, Any], data: type, exported: ForExport, *, files: Sequence[str]
) -> str:
    """Says what a network is, how it is used, what it has learnt from, and how good it was.

    Args:
        model: The module.
        known: What is told of where its weights come from.
        data: The class of the data.
        exported: What of it other runtimes take.
        files: Files beside the card.
    """
    task = model.task
    name = f"{type(model.network).__name__} of {task}"
    parts = [
        "---\n" + yaml.safe_dump({"library_name": "onecore", "tags": ["onecore", task]}, sort_keys=False) + "---",
        f"# {name}",
        summary(type(model)),
        f"- network: {_architecture(model.network)}\n- inputs of the network: {_inputs(exported)}\n"
        f"- files: {', '.join(f'`{file}`' for file in files)}",
        "## Use\n\n```sh\n"
        f"python -m tasks.{task} predict --ckpt_path FOLDER --input FILES --output predictions\n"
        f"python -m tasks.{task} test --ckpt_path FOLDER --data.root=DATA\n```\n\nFOLDER is this file's.",
        f"## Data\n\n{data.__name__}: {summary(data)}\n\n{_table('fact', _facts(model.facts))}",
        f"## Metrics\n\n{_metrics(known)}",
        f"## Training\n\n{_training(known)}\n\n```yaml\n{_settings(model.config)}```",
        "## Limits\n\nMeasured on the data named above and on nothing else. What it makes of other data, other people "
        "or other machines is not known; who uses it for more than an experiment has to measure that first.",
    ]
    return "\n\n".join(parts) + "\n"


def _architecture(network: nn.Module) -> str:
    parts = [
        f"{name} {type(part).__name__} of {sum(each.numel() for each in part.parameters()):,}"
        for name, part in network.named_children()
        if next(part.parameters(), None) is not None
    ]
    total = sum(each.numel() for each in network.parameters())
    return f"{total:,} parameters ({', '.join(parts)})"


def _inputs(exported: ForExport) -> str:
    """Name and shape of each, free axes by their names."""
    shapes = {
        name: [*exported.free[name], *map(str, each.shape[len(exported.free[name]) :])]
        for name, each in exported.inputs.items()
    }
    return "; ".join(f"`{name}` ({', '.join(shape)})" for name, shape in shapes.items())


def _facts(facts: Mapping[str, Any]) -> dict[str, str]:
    """The facts that can be read; a tokenizer or a long list is only counted."""
    shown = {}
    for name, value in facts.items():
        if isinstance(value, list | tuple) and len(value) > _MOST:
            shown[name] = f"{len(value)} values, {', '.join(map(str, value[:3]))}, ..."
        elif isinstance(value, str) and len(value) > 100:
            shown[name] = f"{len(value)} characters"
        elif value is not None:
            shown[name] = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return shown


def _metrics(known: Mapping[str, Any]) -> str:
    values = {name: f"{value:.6g}" for name, value in known.get("metrics", {}).items()}
    return _table("metric", values) if values else "None is known: the run was stopped before it was validated."


def _training(known: Mapping[str, Any]) -> str:
    commands = known.get("commands") or [_NOT_KNOWN]
    lines = [f"- command: `{command}`" if command != _NOT_KNOWN else f"- command: {command}" for command in commands]
    return "\n".join(
        [*lines, f"- commit: {known.get('commit') or _NOT_KNOWN}", f"- date: {known.get('date') or _NOT_KNOWN}"]
    )


def _settings(config: Mapping[str, Any]) -> str:
    chosen = {name: config[name] for name in ("seed_everything", "training") if name in config}
    return yaml.safe_dump(chosen, sort_keys=False)


def _table(head: str, rows: Mapping[str, str]) -> str:
    cells: Iterable[str] = (
        f"| {name} | {' '.join(text.split()).replace('|', chr(92) + '|')} |" for name, text in rows.items()
    )
    return "\n".join([f"| {head} | value |", "|---|---|", *cells])

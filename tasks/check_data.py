"""The command that looks a data set over."""

import argparse
import json
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning import LightningDataModule

from tasks.build import TaskParser
from tasks.errors import UsageError, first_line
from tasks.mistakes import explain


def check_data(default_config: Path, args: list[str]) -> str:
    """Looks a data set over and returns the report.

    Args:
        default_config: The experiment whose data are looked at unless others are given.
        args: What follows `check-data`.
    """
    parser = TaskParser()
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    words = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    words.add_argument("--config", "-c", action="append")
    try:
        given, own = words.parse_known_args(args)
    except argparse.ArgumentError as error:
        raise UsageError(str(error)) from error
    data: Any = {}
    for file in given.config or [default_config]:
        try:
            data = (yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {}).get("data", data)
        except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError) as error:
            raise UsageError(f"--config={file} is no readable configuration: {first_line(error)}") from error
    try:
        config = parser.parse_args([f"--data={json.dumps(data)}", *own])
    except UsageError as error:
        raise UsageError(explain(str(error), parser, own, {"data": data})) from error
    return str(parser.instantiate_classes(config)["data"].check())

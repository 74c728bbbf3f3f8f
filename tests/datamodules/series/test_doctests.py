import doctest
import importlib
from pathlib import Path

import pytest

import datamodules.series

FILES = [file for file in Path(datamodules.series.__file__).parent.glob("*.py") if ">>> " in file.read_text()]


@pytest.mark.parametrize("file", sorted(FILES), ids=lambda file: file.stem)
def test_examples_in_docstrings(file):
    failed, attempted = doctest.testmod(importlib.import_module(f"datamodules.series.{file.stem}"))
    assert attempted
    assert not failed

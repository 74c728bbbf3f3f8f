"""Every example in a docstring of the core is run: what a docstring shows is a test."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest
import torch

import core

MODULES = sorted(module.name for module in pkgutil.walk_packages(core.__path__, "core."))


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name):
    result = doctest.testmod(importlib.import_module(name), extraglobs={"torch": torch})
    assert result.failed == 0


def test_the_document_of_the_core():
    result = doctest.testfile(str(Path(__file__).parents[2] / "docs" / "core.md"), module_relative=False)
    assert result.failed == 0
    assert result.attempted > 10


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [e for name in MODULES for t in finder.find(importlib.import_module(name)) for e in t.examples]
    assert len(examples) >= 3  # else the test above would pass on nothing

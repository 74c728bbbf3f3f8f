"""Every example in a docstring of the core is run: what a docstring shows is a test."""

import doctest
import importlib
import pkgutil

import pytest
import torch

import core

MODULES = sorted(module.name for module in pkgutil.walk_packages(core.__path__, "core."))


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name):
    result = doctest.testmod(importlib.import_module(name), extraglobs={"torch": torch})
    assert result.failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [e for name in MODULES for t in finder.find(importlib.import_module(name)) for e in t.examples]
    assert len(examples) >= 3  # else the test above would pass on nothing

"""Docstrings as texts for people."""

import inspect
from typing import Any

import docstring_parser


def summary(documented: Any) -> str:
    """The first sentence that documents a class or a function."""
    return docstring_parser.parse(inspect.getdoc(documented) or "").short_description or ""

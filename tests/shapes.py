"""Checks of shapes in the first calls of each function in each test: what a test does a hundred times says no more.

The checks take as long as what is checked, where tensors are small.
"""

import inspect
import sys
from collections import Counter
from collections.abc import Callable
from types import FunctionType
from typing import Any

from beartype import beartype

ENOUGH = 20
"""Checks of one function in one test: arguments and result are one each."""

_checks: Counter[tuple[str, str]] = Counter()
_left: list[FunctionType] = []


def check_first_calls(function: Callable[..., Any]) -> Callable[..., Any]:
    """`beartype`, made at the first call, since a process calls few of all functions; for `jaxtyping`'s import hook."""
    name, checked = (function.__module__, function.__qualname__), None

    def check(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked
        __tracebackhide__ = True
        _checks[name] += 1
        if _checks[name] == ENOUGH:
            _leave(*name)
        checked = checked or beartype(function)
        return checked(*args, **kwargs)

    return check


def check_again() -> None:
    """For the next test."""
    _checks.clear()
    while _left:
        del _left.pop().__no_type_check__


def _leave(module: str, name: str) -> None:
    """Lets `jaxtyping` pass a function by, if it is no local one."""
    found = sys.modules.get(module)
    for part in name.split("."):
        found = inspect.getattr_static(found, part, None)
    found = getattr(found, "fget", getattr(found, "__func__", found))
    if isinstance(found, FunctionType) and not hasattr(found, "__no_type_check__"):
        found.__no_type_check__ = True
        _left.append(found)

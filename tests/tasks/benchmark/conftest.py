"""Measurements in forks of this process, which has imported what they need: their figures are looked at by no test."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest


def in_fork(function: Callable[..., Any], *args: Any) -> Any:
    """Calls a function in a process of its own, that begins where this one is."""
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("fork")) as pool:
        return pool.submit(function, *args).result()


@pytest.fixture(scope="module")
def forks() -> Iterator[None]:
    """Takes the place of the processes that begin from nothing, whose imports take seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.benchmark.attention.points.in_fresh_process", in_fork)
        patch.setattr("tasks.benchmark.comparison.run.in_fresh_process", in_fork)
        yield

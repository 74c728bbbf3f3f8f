"""Runs every `traced.py` without the checks of shapes, through which torch cannot trace.

They begin when the tests are collected (`tests/conftest.py`) and run beside the others, on a core of their own.
"""

import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

FILES = sorted(Path(__file__).parent.rglob("traced.py"))


class Beside:
    """Processes that run one after the other, beside the tests."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(1)
        self.futures: dict[tuple[Path, str], Future[tuple[int, str]]] = {}
        self.process: subprocess.Popen[str] | None = None

    def begin(self, path: Path, marker: str) -> None:
        """Adds one to the row."""
        self.futures[path, marker] = self.pool.submit(self._run, path, marker)

    def end(self) -> None:
        """Leaves what nobody waits for."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        if self.process is not None:
            self.process.kill()

    def _run(self, path: Path, marker: str) -> tuple[int, str]:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", "-m", marker, str(path)],
            env=os.environ | {"ONECORE_TEST_SHAPES": "off"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said, _ = self.process.communicate(timeout=2000)
        return self.process.returncode, said


BESIDE = pytest.StashKey[Beside]()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
@pytest.mark.parametrize("marker", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_what_is_traced(path: Path, marker: str, pytestconfig: pytest.Config):
    code, said = pytestconfig.stash[BESIDE].futures[path, marker].result()
    assert code == 0, said[-7000:]

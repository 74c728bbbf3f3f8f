"""Runs every `traced.py` without the checks of shapes, through which torch cannot trace: in another process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILES = [str(path) for path in sorted(Path(__file__).parent.rglob("traced.py"))]


@pytest.mark.parametrize("marker", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_what_is_traced(marker: str):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-m", marker, *FILES],
        env=os.environ | {"ONECORE_TEST_SHAPES": "off"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=2000 * len(FILES),
    )
    assert done.returncode == 0, done.stdout[-7000:]

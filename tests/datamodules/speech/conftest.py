import os
from pathlib import Path

import numpy as np
import pytest

from tests.datamodules.speech.sets import write_manifest

WORDS = ("red", "green", "blue", "go", "stop")


@pytest.fixture(scope="session")
def manifest(tmp_path_factory) -> Path:
    """24 training utterances of 0.2 to 2 s, 7 of validation and 5 of test at 8 kHz, not to be changed."""
    random = np.random.default_rng(0)
    counts = {"train": 24, "val": 7, "test": 5}
    parts = {
        part: [(random.uniform(0.2, 2), " ".join(random.choice(WORDS, 3))) for _ in range(count)]
        for part, count in counts.items()
    }
    return write_manifest(tmp_path_factory.mktemp("manifest"), parts)


@pytest.fixture(scope="session")
def digits() -> str:
    """The folder that contains the real spoken digits."""
    root = Path(os.environ.get("ONECORE_DATA", "data")).absolute()
    if not (root / "free-spoken-digit-dataset" / "recordings").is_dir():
        pytest.skip(f"free-spoken-digit-dataset is not in {root} ($ONECORE_DATA)")
    return str(root)

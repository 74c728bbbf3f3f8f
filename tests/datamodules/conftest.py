"""Pictures on disk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_classes(folder: Path, counts: dict[str, int], size: tuple[int, int] = (6, 8), seed: int = 0) -> Path:
    """Writes noise as `folder/<class>/<number>.png`, of a height and width."""
    random = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:03}.png")
    return folder


@pytest.fixture(scope="session")
def animals(tmp_path_factory) -> Path:
    """43 training pictures of 6x8 in two classes, and 8 of validation."""
    root = tmp_path_factory.mktemp("animals")
    write_classes(root / "train", {"cat": 20, "dog": 23})
    write_classes(root / "val", {"cat": 4, "dog": 4}, seed=1)
    return root

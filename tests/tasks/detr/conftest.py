"""Pictures on disk, with what was found on them, and published weights."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tasks.detr.published import SMALL, reference, saved

CLASS_NAMES = ["cell", "weiße Zelle, $10^6$", "a/b"]
CATEGORY_IDS = [4, 1, 90]


def found(*rows):
    """Detections of `(x1, y1, x2, y2, score, label)`."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return {"boxes": table[:, :4], "scores": table[:, 4], "labels": table[:, 5].long()}


@pytest.fixture
def pictures(tmp_path):
    """Three files in two folders, two of one name; the last is stored lying on its side."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "in"
    for path, size in {"a/1.jpg": (60, 80), "b/1.png": (50, 120), "b/2.jpg": (40, 90)}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(rng.integers(100, 130, (*size, 3), dtype=np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6 if path == "b/2.jpg" else 1
        image.save(folder / path, exif=exif)
    return [str(folder / path) for path in ("a/1.jpg", "b/1.png", "b/2.jpg")]


@pytest.fixture(scope="module")
def published() -> Any:
    """Transformers' DETR, small."""
    return reference(**SMALL)


@pytest.fixture(scope="module")
def published_file(published, tmp_path_factory) -> str:
    """The same as it is published."""
    return saved(published.state_dict(), tmp_path_factory.mktemp("published") / "model.safetensors")

import os
from pathlib import Path

import pytest

from tests.datamodules.detection.sets import write_animals


@pytest.fixture(scope="session")
def animals(tmp_path_factory) -> Path:
    """The small COCO set, not to be changed."""
    return write_animals(tmp_path_factory.mktemp("animals"))


@pytest.fixture
def own(tmp_path) -> Path:
    """The small COCO set, to be changed."""
    return write_animals(tmp_path)


@pytest.fixture(scope="session")
def bccd() -> Path:
    """The folder that contains the real blood cells."""
    root = Path(os.environ.get("ONECORE_DATA", "data")).absolute()
    if not (root / "BCCD_Dataset" / "BCCD" / "Annotations").is_dir():
        pytest.skip(f"BCCD_Dataset is not in {root} ($ONECORE_DATA)")
    return root

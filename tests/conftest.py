"""Shape types are checked while the tests run, and only then; one thread, since the tensors of tests are small."""

import gc
import os
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

from tests.shapes import check_again

if os.environ.get("ONECORE_TEST_SHAPES") != "off":  # off for what torch traces: see tests/test_traced.py
    parts = ["backbone", "boxes", "classification", "denoising", "losses", "matcher", "model", "queries", "targets"]
    speech = ["alignment", "decoding", "feasibility", "features", "losses", "model", "subsampling"]
    speech += ["tokens", "whisper"]
    rooms = [*(f"tasks.detr.{part}" for part in parts), *(f"tasks.asr.{part}" for part in speech)]
    rooms += [f"tasks.forecast.{part}" for part in ("decoding", "drawing", "evaluation", "explanation", "heads")]
    rooms += [f"tasks.forecast.{part}" for part in ("model", "report", "revin", "tokens")]
    rooms += [f"datamodules.series.{part}" for part in ("calendar", "scaling", "standard", "windows")]
    install_import_hook(["core", "tasks.vit.model", *rooms], "tests.shapes.check_first_calls")
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests begin


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """None beside this process for files that are named, which it runs before another has imported what it needs."""
    return 0 if all(Path(name.split("::")[0]).is_file() for name in config.args) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that nobody waits for it in the end."""
    items.sort(key=lambda item: item.path.name != "test_traced.py")


def pytest_runtest_setup() -> None:
    """Each test has its shapes checked."""
    check_again()


def pytest_collection_finish() -> None:
    """The many objects of the libraries stay: the garbage collector need not look at them each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def small_chunks():
    """So that a few tokens are several chunks."""
    from core.attention import blocks, linear_scan, linear_sums

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "CHUNK_ROWS", 8)
        patch.setattr(linear_sums, "BLOCK", 4)
        patch.setattr(linear_scan, "CHUNK", {})
        patch.setattr(linear_scan, "CHUNK_ELSEWHERE", 64)
        yield

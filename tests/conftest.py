"""Shape types are checked while the tests run, and only then; one thread, since the tensors of tests are small."""

import os

import pytest
import torch
from jaxtyping import install_import_hook

if os.environ.get("ONECORE_TEST_SHAPES") != "off":  # off for what torch traces: see tests/test_traced.py
    parts = ["backbone", "boxes", "classification", "denoising", "losses", "matcher", "model", "queries", "targets"]
    speech = ["alignment", "decoding", "feasibility", "features", "losses", "model", "subsampling"]
    speech += ["tokens", "whisper"]
    rooms = [*(f"tasks.detr.{part}" for part in parts), *(f"tasks.asr.{part}" for part in speech)]
    rooms += [f"tasks.forecast.{part}" for part in ("decoding", "drawing", "evaluation", "explanation", "heads")]
    rooms += [f"tasks.forecast.{part}" for part in ("model", "report", "revin", "tokens")]
    rooms += [f"datamodules.series.{part}" for part in ("calendar", "scaling", "standard", "windows")]
    install_import_hook(["core", "tasks.vit.model", *rooms], "beartype.beartype")
torch.set_num_threads(1)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begins what is traced, if any of it was asked for."""
    from tests.test_traced import BESIDE, Beside

    wanted = [item for item in session.items if getattr(item, "originalname", "") == "test_what_is_traced"]
    if wanted and not session.config.option.collectonly:
        beside = session.config.stash[BESIDE] = Beside()
        for item in wanted:
            beside.begin(item.callspec.params["path"], item.callspec.params["marker"])  # pyright: ignore


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leaves what is still traced when the tests end early."""
    from tests.test_traced import BESIDE

    if BESIDE in session.config.stash:
        session.config.stash[BESIDE].end()


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

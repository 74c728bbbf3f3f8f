"""What the tests of the core have in common: few examples, each being repeated for every mechanism; small chunks."""

import pytest
from hypothesis import settings

from core.attention import blocks, linear_scan, linear_sums

settings.register_profile("core", max_examples=12, deadline=None, print_blob=True)
settings.load_profile("core")


@pytest.fixture(scope="module")
def small_chunks():
    """So that a few tokens are several chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "CHUNK_ROWS", 8)
        patch.setattr(linear_sums, "BLOCK", 4)
        patch.setattr(linear_scan, "CHUNK", {})
        patch.setattr(linear_scan, "CHUNK_ELSEWHERE", 64)
        yield

import doctest

import pytest

from tasks import run
from tasks.detr import boxes, explanation


@pytest.mark.parametrize("module", [boxes, explanation, run])
def test_examples_in_docstrings(module):
    failed, attempted = doctest.testmod(module)
    assert attempted
    assert not failed

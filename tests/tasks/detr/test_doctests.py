import doctest

import pytest

from tasks.detr import boxes, drawing, explanation


@pytest.mark.parametrize("module", [boxes, drawing, explanation])
def test_examples_in_docstrings(module):
    failed, attempted = doctest.testmod(module)
    assert attempted
    assert not failed

import doctest

import pytest

from tasks.forecast import drawing, evaluation, explanation, heads, report


@pytest.mark.parametrize("module", [drawing, evaluation, explanation, heads, report], ids=lambda m: m.__name__)
def test_examples_in_docstrings(module):
    failed, attempted = doctest.testmod(module)
    assert attempted
    assert not failed

import doctest

import pytest

from tasks.asr import alignment, evaluation, feasibility, features, joining, losses, report, whisper
from tasks.asr.decoding import ctc, search


@pytest.mark.parametrize(
    "module",
    [alignment, ctc, evaluation, feasibility, features, joining, losses, report, search, whisper],
    ids=lambda m: m.__name__,
)
def test_examples_in_docstrings(module):
    failed, attempted = doctest.testmod(module)
    assert attempted
    assert not failed

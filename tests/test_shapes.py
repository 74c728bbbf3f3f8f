import pytest
import torch
from jaxtyping import TypeCheckError

from core.masks import padding_mask
from tests.shapes import ENOUGH, check_again


def test_a_wrong_shape_is_told_in_the_first_calls_of_each_test():
    wrong = torch.ones(2, 3, dtype=torch.long)
    with pytest.raises(TypeCheckError, match="padding_mask"):
        padding_mask(wrong, 3)
    for _ in range(ENOUGH):
        padding_mask(wrong[0], 3)
    padding_mask(wrong, 3)  # left alone by now
    check_again()
    with pytest.raises(TypeCheckError, match="padding_mask"):
        padding_mask(wrong, 3)

import pytest
import torch

from core import Encoder


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("num_outputs", [1, 3, 5])
def test_the_first_tokens_are_what_they_would_be(norm_first: bool, num_outputs: int):
    torch.manual_seed(0)
    encoder = Encoder(16, 2, 3, norm_first=norm_first)
    x = torch.randn(2, 5, 16)
    padded = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])

    def gradients(y: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad(y.square().sum(), list(encoder.parameters())))

    full = encoder(x, key_padding_mask=padded)[:, :num_outputs]
    some = encoder(x, key_padding_mask=padded, num_outputs=num_outputs)
    torch.testing.assert_close(some, full, rtol=1e-5, atol=1e-5)
    for a, b in zip(gradients(some), gradients(full), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_outputs", [0, -1, 6])
def test_an_impossible_number_of_outputs_is_refused(num_outputs: int):
    with pytest.raises(ValueError, match=f"num_outputs={num_outputs}"):
        Encoder(16, 2, 1)(torch.randn(2, 5, 16), num_outputs=num_outputs)

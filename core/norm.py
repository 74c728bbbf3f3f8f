"""Norms beside `torch.nn.LayerNorm`, for the layers' argument `norm`."""

from torch import nn

from core.types import Tokens


class BatchNorm(nn.BatchNorm1d):
    """Normalises each channel over all tokens of the batch (Ioffe and Szegedy 2015), as PatchTST does.

    Parameters, running statistics and numbers are those of `torch.nn.BatchNorm1d`, but channels come last. In training
    a sequence's numbers depend on the others in its batch; in evaluation they do not.

    Args:
        embed_dim: Width of a token.
        eps: Added to the variance.
        momentum: Share of a batch in the running statistics.
    """

    def __init__(self, embed_dim: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(embed_dim, eps=eps, momentum=momentum)

    def forward(
        self,
        input: Tokens,  # noqa: A002 - the name that torch.nn.BatchNorm1d gives it
    ) -> Tokens:
        return super().forward(input.flatten(0, 1)).view_as(input)

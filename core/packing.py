"""Sequences of unequal lengths without their padding: real tokens only, one sequence behind the other."""

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor


class Packing:
    """Where the real tokens of a padded batch stand, and how many each sequence has.

    Packed tokens are a batch of one, `(1, total, ...)`: projections, norms and feed-forward networks see real tokens
    only, and attention is split by `lengths`. What an encoder or decoder gives for packed tokens is what it gives for
    the padded ones. A mechanism that goes by distance (sparse, Longformer) counts real tokens, so there the two
    agree where padding stands behind the real tokens.

    Args:
        key_padding_mask: True = padding.

    >>> packing = Packing(torch.tensor([[False, False, True], [False, True, True]]))
    >>> packing.lengths
    [2, 1]
    >>> packing.pack(torch.tensor([[1, 2, 0], [3, 0, 0]])).tolist()
    [[1, 2, 3]]
    >>> packing.unpack(torch.tensor([[1, 2, 3]])).tolist()
    [[1, 2, 0], [3, 0, 0]]
    """

    def __init__(self, key_padding_mask: Bool[Tensor, "batch length"]) -> None:
        real = ~key_padding_mask
        self.shape = (key_padding_mask.shape[0], key_padding_mask.shape[1])
        self.places: Tensor = real.flatten().nonzero()[:, 0]
        self.lengths: list[int] = real.sum(1).tolist()

    def pack(self, x: Shaped[Tensor, "batch length *rest"]) -> Shaped[Tensor, "1 total *rest"]:
        """Leaves the padding out."""
        return x.flatten(0, 1)[None, self.places]

    def unpack(self, x: Shaped[Tensor, "1 total *rest"]) -> Shaped[Tensor, "batch length *rest"]:
        """Puts the padding back, as zeros."""
        padded = x.new_zeros(self.shape[0] * self.shape[1], *x.shape[2:])
        return padded.index_copy(0, self.places, x[0]).unflatten(0, self.shape)

    def repeat(self, x: Shaped[Tensor, "batch ..."]) -> Shaped[Tensor, "1 total ..."]:
        """Gives each token what its sequence has."""
        return x.repeat_interleave(torch.tensor(self.lengths, device=x.device), dim=0)[None]

    def positions(self) -> Int[Tensor, "1 total"]:
        """Each token's position among the real tokens of its sequence, from 0."""
        device = self.places.device
        return torch.cat([torch.arange(length, device=device) for length in self.lengths])[None]

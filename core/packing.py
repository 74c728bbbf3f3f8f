"""Sequences of unequal lengths without their padding: real tokens only, one sequence behind the other."""

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor


class Packing:
    """Where the real tokens of a padded batch stand, and how many each sequence has.

    Packed tokens are a batch of one, `(1, total, ...)`: projections, norms and feed-forward networks see real tokens
    only, and attention is split by `lengths`. What an encoder or decoder gives for packed tokens is what it gives for
    the padded ones. A mechanism that goes by distance (sparse, Longformer) counts real tokens, so there the two
    agree where padding stands behind the real tokens. A rotary encoding goes by the places in the padded batch.

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
        """Each token's position in its row of the padded batch, from 0."""
        return (self.places % max(self.shape[1], 1))[None]

    def check(self, x: Tensor, *masks: Tensor | None) -> None:
        """Refuses tokens that are not packed so, and masks, of which packed tokens have none.

        Raises:
            ValueError: If `x` is not `(1, total, ...)`, or a mask is given.
        """
        total = sum(self.lengths)
        if x.shape[:2] != (1, total):
            raise ValueError(f"packing has {total} tokens, so x must be (1, {total}, ...), but it is {tuple(x.shape)}")
        if any(mask is not None for mask in masks):
            raise ValueError("packed tokens have no padding and no common attn_mask: give packing alone")

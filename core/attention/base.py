"""The one contract that every attention mechanism keeps."""

from abc import ABC, abstractmethod

from torch import nn

from core.types import AttentionMask, HeadKeys, HeadQueries, KeyPaddingMask


class Attention(nn.Module, ABC):
    """Mixes values by the likeness of queries and keys, inside heads that are already split.

    A mechanism has no projections and no flags: those belong to `core.multihead.MultiHeadAttention`. It honours every
    argument that it is given or refuses it with `ValueError`; an argument accepted and ignored is a defect.
    """

    @abstractmethod
    def forward(
        self,
        q: HeadQueries,
        k: HeadKeys,
        v: HeadKeys,
        *,
        key_padding_mask: KeyPaddingMask | None = None,
        attn_mask: AttentionMask | None = None,
        is_causal: bool = False,
    ) -> HeadQueries:
        """Attends from each query to the keys that no mask leaves out.

        Args:
            q: Projected queries.
            k: Projected keys.
            v: Projected values, one a key.
            key_padding_mask: True = padding, ignored. What a padded slot holds, NaN included, changes nothing.
            attn_mask: True = blocked.
            is_causal: Blocks the keys that lie behind a query, the last query standing at the last key.

        Returns:
            A mixture of values for each query; zeros for a query that may see no key at all.

        Raises:
            ValueError: If the mechanism cannot honour an argument.
        """

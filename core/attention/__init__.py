"""The attention mechanisms: one contract (`base.py`), a mechanism a file."""

from core.attention.base import Attention
from core.attention.full import FullAttention
from core.attention.linear import LinearAttention
from core.attention.longformer import LongformerAttention
from core.attention.sparse import FixedSparseAttention, SparseAttention

__all__ = [
    "Attention",
    "FixedSparseAttention",
    "FullAttention",
    "LinearAttention",
    "LongformerAttention",
    "SparseAttention",
]

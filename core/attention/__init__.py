"""The attention mechanisms: one contract (`base.py`), a mechanism a file."""

from core.attention.base import Attention
from core.attention.full import FullAttention

__all__ = ["Attention", "FullAttention"]

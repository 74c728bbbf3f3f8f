"""The Transformer core: attention, positions, encoder, decoder. Knows torch and nothing of tasks, data or Lightning."""

from core.attention import (
    Attention,
    FixedSparseAttention,
    FullAttention,
    LinearAttention,
    LongformerAttention,
    SparseAttention,
)
from core.cache import DecoderCache, KeyValueCache
from core.decoder import Decoder, DecoderLayer
from core.dropout import Dropout
from core.encoder import Encoder, EncoderLayer
from core.feedforward import FeedForward
from core.linear import Linear
from core.multihead import MultiHeadAttention
from core.norm import BatchNorm
from core.packing import Packing
from core.position import (
    LearnedPositionalEncoding,
    LearnedPositionalEncoding2d,
    RotaryPositionalEncoding,
    SinusoidalPositionalEncoding,
    SinusoidalPositionalEncoding2d,
)
from core.residual import LayerScale, Residual, StochasticDepth

__all__ = [
    "Attention",
    "BatchNorm",
    "Decoder",
    "DecoderCache",
    "DecoderLayer",
    "Dropout",
    "Encoder",
    "EncoderLayer",
    "FeedForward",
    "FixedSparseAttention",
    "FullAttention",
    "KeyValueCache",
    "LayerScale",
    "LearnedPositionalEncoding",
    "LearnedPositionalEncoding2d",
    "Linear",
    "LinearAttention",
    "LongformerAttention",
    "MultiHeadAttention",
    "Packing",
    "Residual",
    "RotaryPositionalEncoding",
    "SinusoidalPositionalEncoding",
    "SinusoidalPositionalEncoding2d",
    "SparseAttention",
    "StochasticDepth",
]

"""The Transformer core: attention, positions, encoder. Knows torch and nothing of tasks, data or Lightning."""

from core.attention import Attention, FullAttention
from core.encoder import Encoder, EncoderLayer
from core.feedforward import FeedForward
from core.multihead import MultiHeadAttention
from core.position import (
    LearnedPositionalEncoding,
    LearnedPositionalEncoding2d,
    SinusoidalPositionalEncoding,
    SinusoidalPositionalEncoding2d,
)
from core.residual import LayerScale, Residual, StochasticDepth

__all__ = [
    "Attention",
    "Encoder",
    "EncoderLayer",
    "FeedForward",
    "FullAttention",
    "LayerScale",
    "LearnedPositionalEncoding",
    "LearnedPositionalEncoding2d",
    "MultiHeadAttention",
    "Residual",
    "SinusoidalPositionalEncoding",
    "SinusoidalPositionalEncoding2d",
    "StochasticDepth",
]

"""The decoder's tokens: as vectors that it reads, and as outputs by which it says the next one."""

from collections.abc import Callable, Sequence

from jaxtyping import Float, Int
from torch import Tensor, nn

from core import LearnedPositionalEncoding, Linear, SinusoidalPositionalEncoding
from core.position import Offset

Position = SinusoidalPositionalEncoding | LearnedPositionalEncoding


class TokenEmbedding(nn.Module):
    """Embeds tokens with their positions, and turns what the decoder makes of them into logits of the next.

    With V = `vocab_size`, tokens 0 to V - 1 are pieces of text, V ends a text, and further special ones follow, which
    may stand in the prompt but are never part of a text.

    Args:
        vocab_size: Number of text pieces, V.
        embed_dim: Width of a token.
        num_special: Number of special tokens, the end among them.
        prompt: The tokens that every text starts with; the end token if not given.
        position: Makes the positional encoding from the width; None = there is none, as for decoders with `rotary`.
        scaled: Whether a token's vector is multiplied by the square root of the width (Vaswani et al. 2017, section
            3.4).
        tied: Whether the output head's weights are those of the embedding (Press and Wolf 2017).

    Raises:
        ValueError: If `num_special` is less than 1, or `prompt` is empty, holds what is no token, or leaves no position
            for a text.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        *,
        num_special: int = 1,
        prompt: Sequence[int] | None = None,
        position: Callable[[int], Position] | None = SinusoidalPositionalEncoding,
        scaled: bool = True,
        tied: bool = True,
    ) -> None:
        super().__init__()
        if num_special < 1:
            raise ValueError(f"num_special={num_special} must be at least 1: there is a token that ends a text")
        self.end = vocab_size
        self.prompt = [self.end] if prompt is None else list(prompt)
        outputs = vocab_size + num_special
        if not self.prompt or not all(0 <= token < outputs for token in self.prompt):
            raise ValueError(f"prompt={self.prompt} must hold tokens, one at least, of 0 to {outputs - 1}")
        self.embedding = nn.Embedding(outputs, embed_dim)
        nn.init.normal_(self.embedding.weight, std=embed_dim**-0.5)
        self.scale = embed_dim**0.5 if scaled else 1.0
        self.position = None if position is None else position(embed_dim)
        self.head = Linear(embed_dim, outputs)
        if tied:
            self.head.weight = self.embedding.weight
        if self.max_length is not None and self.max_length < 1:
            raise ValueError(f"prompt={self.prompt} leaves none of the {len(self.prompt) + self.max_length} positions")

    @property
    def max_length(self) -> int | None:
        """The most tokens of a text, the prompt not counted and its end neither; None where there is no limit."""
        if not isinstance(self.position, LearnedPositionalEncoding):
            return None
        return len(self.position.weight) - len(self.prompt)

    def forward(
        self, tokens: Int[Tensor, "batch length"], offset: Offset = 0
    ) -> Float[Tensor, "batch length embed_dim"]:
        """Embeds tokens, the first of which is the `offset`-th of its text, prompt included."""
        x = self.embedding(tokens) * self.scale
        return x if self.position is None else x + self.position(tokens.shape[1], offset=offset)

    def logits(self, x: Float[Tensor, "batch length embed_dim"]) -> Float[Tensor, "batch length outputs"]:
        """What the decoder's output says of the token behind each."""
        return self.head(x)

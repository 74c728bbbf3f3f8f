"""Small language models, as a task would build them out of the core: what `speed --task core` measures."""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from core import Decoder, DecoderCache, Encoder, LearnedPositionalEncoding, Linear, LongformerAttention, Packing


@dataclass(frozen=True)
class Sizes:
    """A language model's sizes, the same for ours and for its peer.

    Attributes:
        vocab_size: Number of tokens.
        block_size: Longest sequence.
        width: Width of a token.
        layers: Number of layers.
        heads: Heads of each layer.
    """

    vocab_size: int
    block_size: int
    width: int
    layers: int
    heads: int


class GPT(nn.Module):
    """GPT-2 (Radford et al. 2019): a pre-norm decoder without an encoder; its head shares the embedding's weight.

    Args:
        sizes: The model's sizes.
        approximate: Of GELU: `tanh` as GPT-2 has it, or `none` as nanoGPT has it.
    """

    def __init__(self, sizes: Sizes, *, approximate: str = "tanh") -> None:
        super().__init__()
        self.embedding = nn.Embedding(sizes.vocab_size, sizes.width)
        self.position = LearnedPositionalEncoding(sizes.width, num_positions=sizes.block_size)
        activation = partial(nn.GELU, approximate=approximate)
        self.decoder = Decoder(sizes.width, sizes.heads, sizes.layers, cross_attention=None, activation=activation)
        self.head = Linear(sizes.width, sizes.vocab_size, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "tokens vocab_size"]:
        """Logits of the token after each."""
        return self.head(self._decode(tokens)).flatten(0, 1)

    def _decode(self, tokens: Tensor, cache: DecoderCache | None = None) -> Tensor:
        offset = 0 if cache is None else cache.past.offset
        return self.decoder(self.embedding(tokens) + self.position(tokens.shape[1], offset=offset), cache=cache)

    def generate(self, tokens: Int[Tensor, "batch length"], count: int) -> Int[Tensor, "batch count"]:
        """Goes on with the likeliest token, `count` times."""
        cache, new = self.decoder.make_cache(), [tokens]
        for _ in range(count):
            new.append(self.head(self._decode(new[-1], cache)[:, -1:]).argmax(-1))
        return torch.cat(new[1:], dim=1)


class BERT(nn.Module):
    """BERT's encoder (Devlin et al. 2019) without a head, for sequences of unequal length; gives the real tokens.

    Args:
        sizes: The model's sizes.
        packed: Whether padding is left out of all computation.
    """

    def __init__(self, sizes: Sizes, *, packed: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(sizes.vocab_size, sizes.width)
        self.position = LearnedPositionalEncoding(sizes.width, num_positions=sizes.block_size)
        self.norm = nn.LayerNorm(sizes.width)
        self.encoder = Encoder(sizes.width, sizes.heads, sizes.layers, norm_first=False)
        self.packed = packed

    def forward(
        self, tokens: Int[Tensor, "batch length"], padding: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "real width"]:
        """Encodes; the real tokens, one sequence behind the other."""
        if not self.packed:
            x = self.norm(self.embedding(tokens) + self.position(tokens.shape[1]))
            return self.encoder(x, key_padding_mask=padding)[~padding]
        packing = Packing(padding)
        positions = self.position(tokens.shape[1])[packing.positions()]
        x = self.norm(self.embedding(packing.pack(tokens)) + positions)
        return self.encoder(x, packing=packing)[0]


class Longformer(nn.Module):
    """Longformer's encoder (Beltagy et al. 2020) without a head and without global tokens.

    Args:
        sizes: The model's sizes.
        window: Width of the window, half of it on each side of a token.
    """

    def __init__(self, sizes: Sizes, *, window: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(sizes.vocab_size, sizes.width)
        self.position = LearnedPositionalEncoding(sizes.width, num_positions=sizes.block_size)
        self.norm = nn.LayerNorm(sizes.width)
        attention = partial(LongformerAttention, window_size=window)
        self.encoder = Encoder(sizes.width, sizes.heads, sizes.layers, norm_first=False, attention=attention)

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "tokens width"]:
        """Encodes; all tokens, one sequence behind the other."""
        x = self.norm(self.embedding(tokens) + self.position(tokens.shape[1]))
        return self.encoder(x).flatten(0, 1)


class Greedy(nn.Module):
    """A language model that is asked to go on with a prompt.

    Args:
        model: What has `generate(tokens, count)`.
        count: Number of new tokens.
    """

    def __init__(self, model: GPT, count: int) -> None:
        super().__init__()
        self.model = model
        self.count = count

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Int[Tensor, "batch count"]:
        """The new tokens."""
        return self.model.generate(tokens, self.count)

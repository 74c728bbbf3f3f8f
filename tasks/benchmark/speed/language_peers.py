"""transformers' GPT-2 and BERT, and GPT-2 in torch's own parts: what the core's language models are held against."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from tasks.benchmark.speed.language import Sizes


class PlainBlock(nn.Module):
    """A pre-norm block in the fewest operations: one product for query, key and value, SDPA, no dropout.

    Args:
        width: Width of a token.
        heads: Number of heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.in_proj, self.out_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.linear1, self.linear2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch length width"]:
        """Attends to the past and transforms each token."""
        parts = self.in_proj(self.norm1(x)).split(x.shape[2], dim=2)
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out_proj(mixed.transpose(1, 2).contiguous().flatten(2))
        return x + self.linear2(F.gelu(self.linear1(self.norm2(x))))


class PlainGPT(nn.Module):
    """GPT-2 by hand, operation for operation what nanoGPT computes in a training step.

    Args:
        sizes: The model's sizes.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.embedding, self.position = (
            nn.Embedding(sizes.vocab_size, sizes.width),
            nn.Embedding(sizes.block_size, sizes.width),
        )
        self.blocks = nn.ModuleList(PlainBlock(sizes.width, sizes.heads) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width)
        self.head = nn.Linear(sizes.width, sizes.vocab_size, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token after each."""
        x = self.embedding(tokens) + self.position(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)).flatten(0, 1)


class PublishedGPT2(nn.Module):
    """transformers' `GPT2LMHeadModel`, without dropout.

    Args:
        sizes: The model's sizes.
        count: New tokens that are asked for by its `generate`, greedily; 0 = the logits of all tokens.
    """

    def __init__(self, sizes: Sizes, *, count: int = 0) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        self.model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=sizes.vocab_size,
                n_positions=sizes.block_size,
                n_embd=sizes.width,
                n_layer=sizes.layers,
                n_head=sizes.heads,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                bos_token_id=None,
                eos_token_id=None,
            )
        )
        self.count = count

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token after each, or the new tokens."""
        if not self.count:
            return self.model(tokens, use_cache=False).logits.flatten(0, 1)
        length, everything = tokens.shape[1], torch.ones_like(tokens)
        longer = self.model.generate(  # pyright: ignore[reportAttributeAccessIssue]
            tokens, attention_mask=everything, max_new_tokens=self.count, do_sample=False, pad_token_id=0
        )
        assert isinstance(longer, Tensor)
        return longer[:, length:]


class PublishedBERT(nn.Module):
    """transformers' `BertModel`, without its pooler and without dropout; gives the real tokens.

    Args:
        sizes: The model's sizes.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        config = BertConfig(
            vocab_size=sizes.vocab_size,
            hidden_size=sizes.width,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            intermediate_size=4 * sizes.width,
            max_position_embeddings=sizes.block_size,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.model = BertModel(config, add_pooling_layer=False)

    def forward(self, tokens: Tensor, padding: Tensor) -> Tensor:
        """Encodes; the real tokens, one sequence behind the other."""
        states = self.model(input_ids=tokens, attention_mask=(~padding).long()).last_hidden_state
        return states[~padding]


class PublishedLongformerModel(nn.Module):
    """transformers' `LongformerModel`, without its pooler, dropout and global tokens.

    Args:
        sizes: The model's sizes.
        window: Width of the window, half of it on each side of a token.
    """

    def __init__(self, sizes: Sizes, *, window: int) -> None:
        super().__init__()
        from transformers import LongformerConfig, LongformerModel

        config = LongformerConfig(
            vocab_size=sizes.vocab_size,
            hidden_size=sizes.width,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            intermediate_size=4 * sizes.width,
            max_position_embeddings=sizes.block_size + 2,  # it counts positions from two on
            attention_window=window,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.model = LongformerModel(config, add_pooling_layer=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Encodes; all tokens, one sequence behind the other."""
        everything = torch.ones_like(tokens)
        states = self.model(input_ids=tokens, attention_mask=everything).last_hidden_state
        return states.flatten(0, 1)

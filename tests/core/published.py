"""Three published architectures, out of parts of the core by configuration alone, and their weights under our names.

The core needs no code of its own for BERT (Devlin et al. 2019), GPT-2 (Radford et al. 2019) or Marian
(Junczys-Dowmunt et al. 2018). Weights are those of transformers; `load_state_dict` refuses a name that either lacks.
"""

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig, GPT2Config, MarianConfig

from core import Decoder, Encoder, LearnedPositionalEncoding, SinusoidalPositionalEncoding
from core.cache import DecoderCache


class Bert(nn.Module):
    """Post-norm, GELU, learned positions, a segment for each token."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width, norm = config.hidden_size, partial(nn.LayerNorm, eps=config.layer_norm_eps)
        self.tokens = nn.Embedding(config.vocab_size, width)
        self.segments = nn.Embedding(config.type_vocab_size, width)
        self.positions = LearnedPositionalEncoding(width, num_positions=config.max_position_embeddings)
        self.norm = norm(width)
        self.encoder = Encoder(
            width,
            config.num_attention_heads,
            config.num_hidden_layers,
            config.intermediate_size,
            norm_first=False,
            norm=norm,
        )

    def forward(self, ids: Tensor, segments: Tensor, padding: Tensor | None = None) -> Tensor:
        x = self.tokens(ids) + self.segments(segments) + self.positions(ids.shape[1])
        return self.encoder(self.norm(x), key_padding_mask=padding)


class GPT2(nn.Module):
    """Pre-norm, GELU by tanh, learned positions, no encoder, the embedding of tokens used again for the logits."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.n_embd)
        self.positions = LearnedPositionalEncoding(config.n_embd, num_positions=config.n_positions)
        self.decoder = Decoder(
            config.n_embd,
            config.n_head,
            config.n_layer,
            cross_attention=None,
            activation=partial(nn.GELU, approximate="tanh"),
            norm=partial(nn.LayerNorm, eps=config.layer_norm_epsilon),
        )

    def forward(self, ids: Tensor, padding: Tensor | None = None, cache: DecoderCache | None = None) -> Tensor:
        offset = 0 if cache is None else cache.past.offset
        x = self.tokens(ids) + self.positions(ids.shape[1], offset=offset)
        return F.linear(self.decoder(x, key_padding_mask=padding, cache=cache), self.tokens.weight)


class Marian(nn.Module):
    """Post-norm, SiLU, sinusoidal positions, one embedding for source, target and logits."""

    bias: Tensor

    def __init__(self, config: MarianConfig) -> None:
        super().__init__()
        width = config.d_model
        self.scale = math.sqrt(width) if config.scale_embedding else 1.0
        self.tokens = nn.Embedding(config.vocab_size, width)
        self.positions = SinusoidalPositionalEncoding(width)
        self.encoder = Encoder(
            width,
            config.encoder_attention_heads,
            config.encoder_layers,
            config.encoder_ffn_dim,
            activation=nn.SiLU,
            norm_first=False,
        )
        self.decoder = Decoder(
            width,
            config.decoder_attention_heads,
            config.decoder_layers,
            config.decoder_ffn_dim,
            activation=nn.SiLU,
            norm_first=False,
        )
        self.register_buffer("bias", torch.zeros(1, config.vocab_size))

    def encode(self, ids: Tensor, padding: Tensor | None = None) -> Tensor:
        x = self.tokens(ids) * self.scale + self.positions(ids.shape[1])
        return self.encoder(x, key_padding_mask=padding)

    def forward(
        self,
        ids: Tensor,
        memory: Tensor,
        memory_padding: Tensor | None = None,
        padding: Tensor | None = None,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        offset = 0 if cache is None else cache.past.offset
        x = self.tokens(ids) * self.scale + self.positions(ids.shape[1], offset=offset)
        masks = {"key_padding_mask": padding, "memory_key_padding_mask": memory_padding}
        return F.linear(self.decoder(x, memory, **masks, cache=cache), self.tokens.weight, self.bias[0])


BERT_NAMES = {
    "embeddings.word_embeddings": "tokens",
    "embeddings.token_type_embeddings": "segments",
    "embeddings.position_embeddings": "positions",
    "embeddings.LayerNorm": "norm",
    "encoder.layer.": "encoder.layers.",
    "attention.self.query": "attention.in_proj.0",
    "attention.self.key": "attention.in_proj.1",
    "attention.self.value": "attention.in_proj.2",
    "attention.output.dense": "attention.out_proj",
    "attention.output.LayerNorm": "attention_residual.norm",
    "intermediate.dense": "feedforward.linear1",
    "output.dense": "feedforward.linear2",
    "output.LayerNorm": "feedforward_residual.norm",
}

GPT2_NAMES = {
    "wte": "tokens",
    "wpe": "positions",
    "h.": "decoder.layers.",
    "ln_1": "attention_residual.norm",
    "attn.c_attn": "attention.in_proj",
    "attn.c_proj": "attention.out_proj",
    "ln_2": "feedforward_residual.norm",
    "mlp.c_fc": "feedforward.linear1",
    "mlp.c_proj": "feedforward.linear2",
    "ln_f": "decoder.norm",
}

MARIAN_NAMES = {
    "shared": "tokens",
    "self_attn_layer_norm": "attention_residual.norm",
    "encoder_attn_layer_norm": "cross_attention_residual.norm",
    "final_layer_norm": "feedforward_residual.norm",
    "self_attn": "attention",
    "encoder_attn": "cross_attention",
    "q_proj": "in_proj.0",
    "k_proj": "in_proj.1",
    "v_proj": "in_proj.2",
    "fc1": "feedforward.linear1",
    "fc2": "feedforward.linear2",
}


def renamed(weights: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Puts our words for theirs, the first that fits first, and the three projections of an attention into one."""
    parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, weight in weights.items():
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        parts[re.sub(r"in_proj\.\d", "in_proj", name)][name] = weight
    return {name: torch.cat([some[part] for part in sorted(some)]) for name, some in parts.items()}


def bert_weights(theirs: nn.Module) -> dict[str, Tensor]:
    return renamed(theirs.state_dict(), BERT_NAMES)


def gpt2_weights(theirs: nn.Module) -> dict[str, Tensor]:
    """Those of `GPT2Model`, whose maps are kept as (in, out)."""
    weights = renamed(theirs.state_dict(), GPT2_NAMES)
    maps = ("in_proj.weight", "out_proj.weight", "linear1.weight", "linear2.weight")
    return {name: weight.T if name.endswith(maps) else weight for name, weight in weights.items()}


def marian_weights(theirs: nn.Module) -> dict[str, Tensor]:
    """Those of `MarianMTModel`, its channels in another order.

    Marian's positions have all sines before all cosines, ours have each sine beside its cosine. The order of the
    channels between the parts is nobody's business but theirs: with ours, each map reads and writes them so.
    """
    weights = {
        name.removeprefix("model."): weight
        for name, weight in theirs.state_dict().items()
        if not name.endswith(("embed_positions.weight", "embed_tokens.weight", "lm_head.weight"))
    }
    weights["bias"] = weights.pop("final_logits_bias")
    weights = renamed(weights, MARIAN_NAMES)
    order = marian_order(weights["tokens.weight"].shape[1])
    reads = ("tokens.weight", "in_proj.weight", "linear1.weight")
    writes = ("norm.weight", "norm.bias", "out_proj.weight", "out_proj.bias", "linear2.weight", "linear2.bias")
    for name, weight in weights.items():
        if name.endswith(reads):
            weights[name] = weight[:, order]
        elif name.endswith(writes):
            weights[name] = weight[order]
    return weights


def marian_order(embed_dim: int) -> Tensor:
    """The number in Marian of each of our channels: 0, d / 2, 1, d / 2 + 1, ..."""
    return torch.arange(embed_dim).view(2, -1).T.flatten()

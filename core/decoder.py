"""The decoder: masked self-attention, encoder-decoder attention, feed-forward (Vaswani et al. 2017, section 3.1)."""

from collections.abc import Callable
from functools import partial

from jaxtyping import Bool, Float
from torch import Tensor, nn

from core.attention import Attention, FullAttention
from core.attention.base import try_out
from core.cache import DecoderCache, LayerCache, Past
from core.feedforward import FeedForward
from core.multihead import MultiHeadAttention
from core.packing import Packing
from core.position import RotaryPositionalEncoding
from core.residual import Residual, run_layer
from core.types import Keys, Queries


class DecoderLayer(nn.Module):
    """Self-attention, attention to the encoder's output, then a feed-forward network, each in a residual connection.

    Args:
        embed_dim: Width of a token.
        num_heads: Number of attention heads.
        ffn_dim: Width inside the feed-forward network.
        dropout: Probability of dropping an element of a branch, and of an activation in the feed-forward network.
        attention: Makes the mechanism of the self-attention.
        cross_attention: Makes the mechanism of the encoder-decoder attention; None = there is no encoder.
        activation: Makes the activation of the feed-forward network.
        norm_first: Pre-norm if true, post-norm otherwise.
        norm: Makes a norm from `embed_dim`.
        bias: Whether the attentions' projections have biases.
        rotary: Makes a rotary encoding for the self-attention.

    Raises:
        ValueError: If a mechanism cannot serve: the self-attention causally, the encoder-decoder attention between
            sequences of unequal length.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        ffn_dim: int,
        *,
        dropout: float = 0.0,
        attention: Callable[[], Attention] = FullAttention,
        cross_attention: Callable[[], Attention] | None = FullAttention,
        activation: Callable[[], nn.Module] = nn.GELU,
        norm_first: bool = True,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
        bias: bool = True,
        rotary: Callable[[int], RotaryPositionalEncoding] | None = None,
    ) -> None:
        super().__init__()

        def residual() -> Residual:
            return Residual(embed_dim, norm_first=norm_first, dropout=dropout, norm=norm)

        self.attention = MultiHeadAttention(embed_dim, num_heads, attention, bias=bias, rotary=rotary)
        self.attention_residual = residual()
        try_out(self.attention.attention, head_dim=embed_dim // num_heads, query_len=2, key_len=2, is_causal=True)
        if cross_attention is not None:
            self.cross_attention = MultiHeadAttention(embed_dim, num_heads, cross_attention, bias=bias)
            self.cross_attention_residual = residual()
            mechanism = self.cross_attention.attention
            try_out(mechanism, head_dim=embed_dim // num_heads, query_len=2, key_len=3, is_causal=False)
        else:
            self.cross_attention = self.cross_attention_residual = None
        self.feedforward = FeedForward(embed_dim, ffn_dim, dropout=dropout, activation=activation)
        self.feedforward_residual = residual()

    def make_cache(self) -> LayerCache:
        """Makes an empty cache for this layer."""
        return LayerCache(self.attention.attention.make_cache())

    def forward(
        self,
        x: Queries,
        memory: Keys | None = None,
        *,
        query_pos: Float[Tensor, "#batch query_len embed_dim"] | None = None,
        pos: Float[Tensor, "#batch key_len embed_dim"] | None = None,
        key_padding_mask: Bool[Tensor, "batch query_len"] | None = None,
        memory_key_padding_mask: Bool[Tensor, "batch key_len"] | None = None,
        attn_mask: Bool[Tensor, "query_len query_len"] | None = None,
        is_causal: bool = True,
        packing: Packing | None = None,
        memory_packing: Packing | None = None,
        cache: LayerCache | None = None,
        past: Past | None = None,
    ) -> Queries:
        """Decodes; the arguments are those of `Decoder.forward`."""

        def attend(x: Tensor) -> Tensor:
            if cache is not None:
                return self.attention.decode(
                    x, cache.attention, past or Past(), query_pos=query_pos, key_padding_mask=key_padding_mask
                )
            return self.attention(
                x,
                query_pos=query_pos,
                key_padding_mask=key_padding_mask,
                attn_mask=attn_mask,
                is_causal=is_causal,
                packing=packing,
            )

        def attend_memory(x: Tensor) -> Tensor:
            assert self.cross_attention is not None
            assert memory is not None
            keys = None if cache is None else cache.memory
            if keys is None:
                keys = self.cross_attention.project_memory(memory, pos)
            if cache is not None:
                cache.memory = keys
            return self.cross_attention.attend(
                x,
                *keys,
                query_pos=query_pos,
                key_padding_mask=memory_key_padding_mask,
                packing=packing,
                memory_packing=memory_packing,
            )

        x = self.attention_residual(x, attend)
        if self.cross_attention_residual is not None:
            x = self.cross_attention_residual(x, attend_memory)
        return self.feedforward_residual(x, self.feedforward)


class Decoder(nn.Module):
    """A stack of `DecoderLayer`s.

    A pre-norm stack ends in a norm, since its residual stream is never normalised otherwise; a post-norm layer ends
    in one already. Without `cross_attention` it is a GPT.

    Args:
        embed_dim: Width of a token.
        num_heads: Number of attention heads; must divide `embed_dim`.
        num_layers: Number of layers.
        ffn_dim: Width inside the feed-forward networks; 4 times `embed_dim` if not given.
        dropout: Probability of dropping an element of a branch, and of an activation in the feed-forward networks.
        attention: Makes the mechanism of each layer's self-attention.
        cross_attention: Makes the mechanism of each layer's encoder-decoder attention; None = there is no encoder.
        activation: Makes the activation of the feed-forward networks.
        norm_first: Pre-norm if true, post-norm otherwise.
        norm: Makes a norm from `embed_dim`.
        bias: Whether the attentions' projections have biases.
        rotary: Makes a rotary encoding for the self-attentions (Su et al. 2021); None = no rotary encoding.
        checkpoint_activations: Keeps no activations inside a layer in training and computes them again in the
            backward pass: less memory, about a third more time, the same gradients (Chen et al. 2016).

    Raises:
        ValueError: If `num_layers` is less than 1, or a layer refuses its arguments.

    Token by token with a cache is the same as all at once:

    >>> decoder, x = Decoder(8, 2, 1, cross_attention=None).eval(), torch.ones(1, 3, 8)
    >>> with torch.inference_mode():
    ...     cache = decoder.make_cache()
    ...     steps = [decoder(x[:, step : step + 1], cache=cache) for step in range(3)]
    ...     torch.allclose(torch.cat(steps, dim=1), decoder(x), atol=1e-6)
    True
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        num_layers: int,
        ffn_dim: int | None = None,
        *,
        dropout: float = 0.0,
        attention: Callable[[], Attention] = FullAttention,
        cross_attention: Callable[[], Attention] | None = FullAttention,
        activation: Callable[[], nn.Module] = nn.GELU,
        norm_first: bool = True,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
        bias: bool = True,
        rotary: Callable[[int], RotaryPositionalEncoding] | None = None,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers={num_layers} must be at least 1")
        self.embed_dim = embed_dim
        self.has_memory = cross_attention is not None
        self.checkpoint_activations = checkpoint_activations
        self.layers = nn.ModuleList(
            DecoderLayer(
                embed_dim,
                num_heads,
                4 * embed_dim if ffn_dim is None else ffn_dim,
                dropout=dropout,
                attention=attention,
                cross_attention=cross_attention,
                activation=activation,
                norm_first=norm_first,
                norm=norm,
                bias=bias,
                rotary=rotary,
            )
            for _ in range(num_layers)
        )
        self.norm = norm(embed_dim) if norm_first else nn.Identity()

    def make_cache(self) -> DecoderCache:
        """Makes an empty cache, to be handed to `forward` with the prompt and then with each new token."""
        return DecoderCache([layer.make_cache() for layer in self.layers if isinstance(layer, DecoderLayer)])

    def forward(
        self,
        x: Queries,
        memory: Keys | None = None,
        *,
        query_pos: Float[Tensor, "#batch query_len embed_dim"] | None = None,
        pos: Float[Tensor, "#batch key_len embed_dim"] | None = None,
        key_padding_mask: Bool[Tensor, "batch query_len"] | None = None,
        memory_key_padding_mask: Bool[Tensor, "batch key_len"] | None = None,
        attn_mask: Bool[Tensor, "query_len query_len"] | None = None,
        is_causal: bool = True,
        packing: Packing | None = None,
        memory_packing: Packing | None = None,
        cache: DecoderCache | None = None,
    ) -> Queries:
        """Decodes tokens; what lies in padded slots changes no other token, and comes out unspecified.

        Args:
            x: Embedded tokens.
            memory: The encoder's output.
            query_pos: Position of `x`, added to queries (and to the self-attention's keys) of every layer but not to
                values (DETR's object queries; Carion et al. 2020).
            pos: Position of `memory`, added to the encoder-decoder attention's keys but not to values.
            key_padding_mask: True = a token of `x` that is padding, ignored.
            memory_key_padding_mask: True = a token of `memory` that is padding, ignored.
            attn_mask: True = blocked, between the tokens of `x`.
            is_causal: Blocks the future between the tokens of `x`. DETR's queries have none: false there.
            packing: How `x` is packed (`core.packing`), `x` and `query_pos` then being `(1, total, embed_dim)`.
            memory_packing: How `memory` is packed.
            cache: What came before `x`: only the new tokens are handed over and computed, and the cache then
                remembers them too. `memory` is projected at the first step and must stay the same.

        Raises:
            ValueError: If `memory` is missing or not asked for, what belongs to it comes without it, packed tokens
                come with a mask or are not packed as `packing` says, or a cache comes with `attn_mask`, `packing`,
                without `is_causal`, with another batch than before, or where a gradient is asked for.
        """
        self._check_memory(memory, pos, memory_key_padding_mask, memory_packing)
        if packing is not None:
            packing.check(x, key_padding_mask, attn_mask)
        if cache is not None:
            cache.check(x)
            if attn_mask is not None or packing is not None or not is_causal:
                raise ValueError(
                    "a cache serves causal decoding of padded batches: no attn_mask, no packing, is_causal=True"
                )
        if key_padding_mask is not None:
            # Once here, so that garbage in padding reaches no product, in no layer and no gradient.
            x = x.masked_fill(key_padding_mask[:, :, None], 0.0)
        is_first = cache is None or cache.num_sequences is None  # later steps have the memory's keys and values
        if memory is not None and memory_key_padding_mask is not None and is_first:
            memory = memory.masked_fill(memory_key_padding_mask[:, :, None], 0.0)
        past = Past() if cache is None else cache.past
        length = x.shape[1]
        after = None if cache is None else past.advance(length, key_padding_mask)
        if cache is not None:
            cache.is_whole = False  # until every layer has taken the step
        for depth, layer in enumerate(self.layers):
            call = partial(
                layer,
                memory=memory,
                query_pos=query_pos,
                pos=pos,
                key_padding_mask=key_padding_mask,
                memory_key_padding_mask=memory_key_padding_mask,
                attn_mask=attn_mask,
                is_causal=is_causal,
                packing=packing,
                memory_packing=memory_packing,
                cache=None if cache is None else cache.layers[depth],
                past=past,
            )
            x = run_layer(call, x, checkpointed=self.checkpoint_activations and self.training and cache is None)
        if cache is not None and after is not None:
            cache.past, cache.num_sequences, cache.is_whole = after, len(x), True
        return self.norm(x)

    def _check_memory(
        self,
        memory: Tensor | None,
        pos: Tensor | None,
        memory_key_padding_mask: Tensor | None,
        memory_packing: Packing | None,
    ) -> None:
        if self.has_memory and memory is None:
            raise ValueError(
                "memory is missing: this decoder has encoder-decoder attention (cross_attention=None has none)"
            )
        if not self.has_memory and memory is not None:
            raise ValueError(
                "memory was given, but this decoder has no encoder-decoder attention (cross_attention=None)"
            )
        if memory is not None and memory_packing is not None:
            memory_packing.check(memory, memory_key_padding_mask)
        if memory is None and not (pos is None and memory_key_padding_mask is None and memory_packing is None):
            raise ValueError(
                "pos, memory_key_padding_mask and memory_packing belong to memory, which this decoder does not have"
            )

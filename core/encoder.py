"""The encoder: a stack of self-attention and feed-forward layers (Vaswani et al. 2017, section 3.1)."""

from collections.abc import Callable
from functools import partial

from jaxtyping import Bool, Float
from torch import Tensor, nn

from core.attention import Attention, FullAttention
from core.feedforward import FeedForward
from core.multihead import MultiHeadAttention
from core.packing import Packing
from core.position import RotaryPositionalEncoding
from core.residual import Residual, run_layer
from core.types import Tokens


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward network, each in a residual connection.

    Args:
        embed_dim: Width of a token.
        num_heads: Number of attention heads.
        ffn_dim: Width inside the feed-forward network.
        dropout: Probability of dropping an element of a branch, and of an activation in the feed-forward network.
        attention: Makes the attention mechanism.
        activation: Makes the activation of the feed-forward network.
        norm_first: Pre-norm if true, post-norm otherwise.
        norm: Makes a norm from `embed_dim`.
        drop_path: Probability with which a sample loses a branch in training (stochastic depth).
        layer_scale: Initial value of LayerScale; None = no LayerScale.
        bias: Whether the attention's projections have biases.
        rotary: Makes a rotary encoding for the self-attention.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        ffn_dim: int,
        *,
        dropout: float = 0.0,
        attention: Callable[[], Attention] = FullAttention,
        activation: Callable[[], nn.Module] = nn.GELU,
        norm_first: bool = True,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
        bias: bool = True,
        rotary: Callable[[int], RotaryPositionalEncoding] | None = None,
    ) -> None:
        super().__init__()

        def residual() -> Residual:
            return Residual(
                embed_dim,
                norm_first=norm_first,
                dropout=dropout,
                drop_path=drop_path,
                layer_scale=layer_scale,
                norm=norm,
            )

        self.attention = MultiHeadAttention(embed_dim, num_heads, attention, bias=bias, rotary=rotary)
        self.attention_residual = residual()
        self.feedforward = FeedForward(embed_dim, ffn_dim, dropout=dropout, activation=activation)
        self.feedforward_residual = residual()

    def forward(
        self,
        x: Tokens,
        *,
        pos: Float[Tensor, "#batch length embed_dim"] | None = None,
        key_padding_mask: Bool[Tensor, "batch length"] | None = None,
        attn_mask: Bool[Tensor, "length length"] | None = None,
        is_causal: bool = False,
        num_outputs: int | None = None,
        packing: Packing | None = None,
    ) -> Float[Tensor, "batch outputs embed_dim"]:
        """Encodes; the arguments are those of `Encoder.forward`."""

        def attend(x: Tensor) -> Tensor:
            return self.attention(
                x,
                query_pos=pos,
                key_padding_mask=key_padding_mask,
                attn_mask=attn_mask,
                is_causal=is_causal,
                packing=packing,
            )

        x = self.attention_residual(x, attend, packing)[:, :num_outputs]
        return self.feedforward_residual(x, self.feedforward, packing)


class Encoder(nn.Module):
    """A stack of `EncoderLayer`s.

    A pre-norm stack ends in a norm, since its residual stream is never normalised otherwise; a post-norm layer ends
    in one already.

    Args:
        embed_dim: Width of a token.
        num_heads: Number of attention heads; must divide `embed_dim`.
        num_layers: Number of layers.
        ffn_dim: Width inside the feed-forward networks; 4 times `embed_dim` if not given.
        dropout: Probability of dropping an element of a branch, and of an activation in the feed-forward networks.
        attention: Makes the attention mechanism of each layer.
        activation: Makes the activation of the feed-forward networks.
        norm_first: Pre-norm if true, post-norm otherwise.
        norm: Makes a norm from `embed_dim`.
        drop_path: Probability with which a sample loses a branch of the last layer in training (stochastic depth);
            it grows linearly from 0 at the first layer (Huang et al. 2016).
        layer_scale: Initial value of LayerScale (Touvron et al. 2021); None = no LayerScale.
        bias: Whether the attentions' projections have biases.
        rotary: Makes a rotary encoding for the self-attentions (Su et al. 2021); None = no rotary encoding.
        final_norm: Whether the stack ends in a norm; a pre-norm stack does if not given.
        checkpoint_activations: Keeps no activations inside a layer in training and computes them again in the
            backward pass: less memory, about a third more time, the same gradients (Chen et al. 2016).

    Raises:
        ValueError: If `num_layers` is less than 1, `drop_path` is not in [0, 1), or a layer refuses its arguments.
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
        activation: Callable[[], nn.Module] = nn.GELU,
        norm_first: bool = True,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
        bias: bool = True,
        rotary: Callable[[int], RotaryPositionalEncoding] | None = None,
        final_norm: bool | None = None,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers={num_layers} must be at least 1")
        if not 0 <= drop_path < 1:
            raise ValueError(f"drop_path={drop_path} is not a probability in [0, 1)")
        self.embed_dim = embed_dim
        self.checkpoint_activations = checkpoint_activations
        self.layers = nn.ModuleList(
            EncoderLayer(
                embed_dim,
                num_heads,
                4 * embed_dim if ffn_dim is None else ffn_dim,
                dropout=dropout,
                attention=attention,
                activation=activation,
                norm_first=norm_first,
                norm=norm,
                drop_path=drop_path * depth / max(num_layers - 1, 1),
                layer_scale=layer_scale,
                bias=bias,
                rotary=rotary,
            )
            for depth in range(num_layers)
        )
        self.norm = norm(embed_dim) if (norm_first if final_norm is None else final_norm) else nn.Identity()

    def forward(
        self,
        x: Tokens,
        *,
        pos: Float[Tensor, "#batch length embed_dim"] | None = None,
        key_padding_mask: Bool[Tensor, "batch length"] | None = None,
        attn_mask: Bool[Tensor, "length length"] | None = None,
        is_causal: bool = False,
        num_outputs: int | None = None,
        packing: Packing | None = None,
    ) -> Float[Tensor, "batch outputs embed_dim"]:
        """Encodes tokens; what lies in padded slots changes no other token, and comes out unspecified.

        Args:
            x: Embedded tokens.
            pos: Position, added to queries and keys of every layer but not to values (DETR; Carion et al. 2020).
            key_padding_mask: True = padding, ignored.
            attn_mask: True = blocked.
            is_causal: Blocks the future.
            num_outputs: Gives only the first so many tokens, which are what they would be otherwise; all if not
                given. The last feed-forward network, which mixes no tokens, is then spared the others.
            packing: How `x` is packed (`core.packing`), `x` and `pos` then being `(1, total, embed_dim)`.

        Raises:
            ValueError: If `num_outputs` is not between 1 and the number of tokens, or packed tokens come with a mask
                or with `num_outputs`, or are not packed as `packing` says.
        """
        if num_outputs is not None and not 1 <= num_outputs <= x.shape[1]:
            raise ValueError(f"num_outputs={num_outputs} is not between 1 and the number of tokens ({x.shape[1]})")
        if num_outputs is not None and packing is not None:
            raise ValueError(f"num_outputs={num_outputs} counts a batch's tokens, and packed ones have no batch")
        if packing is not None:
            packing.check(x, key_padding_mask, attn_mask)
        if key_padding_mask is not None:
            # Once here, so that garbage in padding reaches no product, in no layer and no gradient.
            x = x.masked_fill(key_padding_mask[:, :, None], 0.0)
        last = len(self.layers) - 1
        for depth, layer in enumerate(self.layers):
            call = partial(
                layer,
                pos=pos,
                key_padding_mask=key_padding_mask,
                attn_mask=attn_mask,
                is_causal=is_causal,
                num_outputs=num_outputs if depth == last else None,
                packing=packing,
            )
            x = run_layer(call, x, checkpointed=self.checkpoint_activations and self.training)
        return self.norm(x)

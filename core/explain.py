"""What a model attended to: attention weights of any layer, for any mechanism, without changing the model."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from core.attention import Attention
from core.types import AttentionMask, HeadKeys, HeadQueries, KeyPaddingMask

AttentionWeights = Float[Tensor, "batch heads query_len key_len"]


@torch.no_grad()
def attention_weights(
    attention: Attention,
    q: HeadQueries,
    k: HeadKeys,
    *,
    key_padding_mask: KeyPaddingMask | None = None,
    attn_mask: AttentionMask | None = None,
    is_causal: bool = False,
) -> AttentionWeights:
    """The weights with which a mechanism mixes the values, each at its true position.

    Every mechanism's output is `W V` with a W that does not depend on V, so that the values `V = I` give W itself:
    by the mechanism's own code, whatever it is. A row sums to 1, or to 0 for a query that may see no key. Dropout is
    off. Costs `key_len / head_dim` passes of the mechanism, and memory for all of W.
    """
    key_len, head_dim = k.shape[2], k.shape[3]
    training = attention.training
    attention.eval()
    try:
        columns = []
        for first in range(0, key_len, head_dim):
            # The values of keys `first` to `first + head_dim - 1` are unit vectors, all others zero.
            unit = torch.zeros_like(k)
            width = min(head_dim, key_len - first)
            unit[:, :, first : first + width, :width] = torch.eye(width, dtype=k.dtype, device=k.device)
            mixed = attention(q, k, unit, key_padding_mask=key_padding_mask, attn_mask=attn_mask, is_causal=is_causal)
            columns.append(mixed[..., :width])
        return torch.cat(columns, dim=-1)
    finally:
        attention.train(training)


@contextmanager
def record_attention(
    model: nn.Module, *, layers: Sequence[str] | None = None, heads: Sequence[int] | None = None
) -> Iterator[dict[str, list[AttentionWeights]]]:
    """Records the attention weights of all that `model` computes inside the `with` block.

    The model's own numbers stay as they are: the weights are computed beside them, from the same queries, keys and
    masks. Self-attention is not recorded where it decodes with a cache (`Decoder.make_cache`): decode without one to
    see its weights. With `checkpoint_activations` a backward pass inside the block records its layers once more.

    Args:
        model: Any module with attention inside: an encoder, a decoder or a task's whole network.
        layers: Names of the `MultiHeadAttention`s to record, as `model.named_modules()` has them, such as
            `encoder.layers.0.attention`; all if not given.
        heads: Numbers of the heads to record; all if not given.

    Yields:
        For each layer's name the weights of its calls, in order: one a batch, or one a sequence where it is packed
        (none for a sequence without queries or keys).

    Raises:
        ValueError: If the model has no layer of a name, or a layer no head of a number.

    >>> from core import Encoder
    >>> encoder = Encoder(8, 2, 1)
    >>> with record_attention(encoder) as recorded:
    ...     _ = encoder(torch.ones(1, 3, 8))
    >>> recorded["layers.0.attention"][0].shape
    torch.Size([1, 2, 3, 3])
    """
    mechanisms = {
        name.removesuffix(".attention"): module
        for name, module in model.named_modules()
        if isinstance(module, Attention)
    }
    for name in layers or ():
        if name not in mechanisms:
            raise ValueError(f"layers: {name!r} is no attention layer of this model; there are {', '.join(mechanisms)}")
    chosen = {name: mechanisms[name] for name in (mechanisms if layers is None else layers)}
    recorded: dict[str, list[Tensor]] = {name: [] for name in chosen}
    busy = False

    def hook_of(name: str):
        def hook(attention: nn.Module, args: tuple[Tensor, ...], masks: dict, _: Tensor) -> None:
            nonlocal busy
            if busy or not isinstance(attention, Attention):  # `attention_weights` calls the mechanism too
                return
            if not all(head in range(args[0].shape[1]) for head in heads or ()):
                raise ValueError(f"heads={list(heads or ())}: {name!r} has the heads 0 to {args[0].shape[1] - 1}")
            busy = True
            try:
                weights = attention_weights(attention, *args[:2], **masks)
            finally:
                busy = False
            recorded[name].append(weights if heads is None else weights[:, list(heads)])

        return hook

    handles = [module.register_forward_hook(hook_of(name), with_kwargs=True) for name, module in chosen.items()]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def attention_rollout(
    weights: Sequence[AttentionWeights], *, residual: float = 0.5
) -> Float[Tensor, "batch query_len key_len"]:
    """How much each input token reaches each output token through all layers (Abnar and Zuidema 2020, section 3).

    `rollout_l = A_l rollout_(l-1)` with `A_l = (1 - residual) W_l + residual I`, W_l being the weights of layer l,
    averaged over its heads; the identity stands for the residual connection, which the paper weighs 0.5. Rows sum
    to 1 where those of W_l do.

    Args:
        weights: Self-attention weights of each layer, the first layer first.
        residual: Share of the residual connection, from 0 to 1.

    Raises:
        ValueError: If there are no weights, `residual` is not in [0, 1], or the weights are not square or not all of
            one size.
    """
    if not weights:
        raise ValueError("weights: attention rollout needs at least one layer")
    if not 0 <= residual <= 1:
        raise ValueError(f"residual={residual} is not a share from 0 to 1")
    length = weights[0].shape[2]
    for number, layer in enumerate(weights):
        if layer.shape[2:] != (length, length):
            raise ValueError(
                f"weights[{number}]: rollout follows {length} tokens through self-attention, but here "
                f"{layer.shape[2]} queries see {layer.shape[3]} keys"
            )
    identity = torch.eye(length, dtype=weights[0].dtype, device=weights[0].device)
    rolled = identity
    for layer in weights:
        rolled = ((1 - residual) * layer.mean(1) + residual * identity) @ rolled
    return rolled

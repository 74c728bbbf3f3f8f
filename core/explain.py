"""What a model attended to: attention weights of any layer, for any mechanism, without changing the model."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from core.attention import Attention
from core.types import HeadKeys, HeadQueries

AttentionWeights = Float[Tensor, "batch heads query_len key_len"]
Shares = Float[Tensor, "#batch rows query_len"]


@dataclass(frozen=True)
class AttentionCall:
    """One call of a mechanism, as far as its weights depend on it.

    Every mechanism's output is `W V` with weights W that do not depend on the values V. So the mechanism itself, by the
    code that the model runs, says what W is, whatever it is: forwards by its columns (`weights`), backwards by its
    rows (`rows`). A row of W sums to 1, or to 0 for a query that may see no key. Dropout is off.

    Attributes:
        attention: The mechanism.
        q: Projected queries.
        k: Projected keys.
        masks: The other arguments of `Attention.forward`.
    """

    attention: Attention
    q: HeadQueries
    k: HeadKeys
    masks: dict[str, Any]

    def select(self, sequences: slice) -> "AttentionCall":
        """The call for some of the batch's sequences."""
        padding = self.masks.get("key_padding_mask")
        masks = self.masks if padding is None else {**self.masks, "key_padding_mask": padding[sequences]}
        return AttentionCall(self.attention, self.q[sequences], self.k[sequences], masks)

    @torch.no_grad()
    def weights(self) -> AttentionWeights:
        """All weights, each at its true position: the values `V = I` make the output W itself.

        Costs `key_len / head_dim` passes of the mechanism, and memory for all of W.
        """
        key_len, head_dim = self.k.shape[2], self.k.shape[3]
        columns = []
        with _evaluating(self.attention):
            for first in range(0, key_len, head_dim):
                # The values of keys `first` to `first + head_dim - 1` are unit vectors, all others zero.
                unit = torch.zeros_like(self.k)
                width = min(head_dim, key_len - first)
                unit[:, :, first : first + width, :width] = torch.eye(width, dtype=unit.dtype, device=unit.device)
                columns.append(self.attention.forward(self.q, self.k, unit, **self.masks)[..., :width])
        return torch.cat(columns, dim=-1)

    def rows(self, shares: Shares) -> Float[Tensor, "batch heads rows key_len"]:
        """`shares W`: what mixtures of queries see, without all of W.

        The gradient of `sum(G * W V)` by V is `W^T G`, so that the mechanism's own backward pass gives the rows, each
        from a channel of G. Costs one pass forwards and `rows / head_dim` backwards, in the mechanism's own memory:
        linear in the length for all of ours.

        Args:
            shares: What each row has of each query; one query has the share 1 for its own row of W.
        """
        head_dim, found = self.k.shape[3], []
        with torch.inference_mode(False), torch.enable_grad(), _evaluating(self.attention):
            q, k = _differentiable(self.q), _differentiable(self.k)
            masks = {name: _differentiable(mask) for name, mask in self.masks.items()}
            values = torch.zeros_like(k).requires_grad_()
            mixed = self.attention.forward(q, k, values, **masks)
            for some in shares.split(head_dim, dim=1):
                count = some.shape[1]
                weighed = torch.zeros_like(mixed, requires_grad=False)
                weighed[..., :count] = some.mT[:, None]
                (seen,) = torch.autograd.grad(mixed, values, weighed, retain_graph=True)
                found.append(seen[..., :count].mT)
        return torch.cat(found, dim=2)


@contextmanager
def record_attention(
    model: nn.Module, *, layers: Sequence[str] | None = None
) -> Iterator[dict[str, list[AttentionCall]]]:
    """Records the attention of all that `model` computes inside the `with` block.

    The model computes what it would without; its queries and keys are kept, nothing more, and asked for weights later.
    Self-attention is not recorded where it decodes with a cache (`Decoder.make_cache`): decode without one to see its
    weights. With `checkpoint_activations` a backward pass inside the block records its layers once more.

    Args:
        model: Any module with attention inside: an encoder, a decoder or a task's whole network.
        layers: Names of the `MultiHeadAttention`s to record, as `model.named_modules()` has them, such as
            `encoder.layers.0.attention`; all if not given.

    Yields:
        For each layer's name its calls, in order: one a batch, or one a sequence where it is packed (none for a
        sequence without queries or keys).

    Raises:
        ValueError: If the model has no layer of a name.

    >>> from core import Encoder
    >>> encoder = Encoder(8, 2, 1)
    >>> with record_attention(encoder) as recorded:
    ...     _ = encoder(torch.ones(1, 3, 8))
    >>> recorded["layers.0.attention"][0].weights().shape
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
    recorded: dict[str, list[AttentionCall]] = {name: [] for name in chosen}

    def hook_of(name: str):
        def hook(attention: nn.Module, args: tuple[Tensor, ...], masks: dict[str, Any], _: Tensor) -> None:
            assert isinstance(attention, Attention)
            recorded[name].append(AttentionCall(attention, args[0].detach(), args[1].detach(), masks))

        return hook

    handles = [module.register_forward_hook(hook_of(name), with_kwargs=True) for name, module in chosen.items()]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def attention_rollout(
    calls: Sequence[AttentionCall], shares: Shares, *, residual: float = 0.5
) -> Float[Tensor, "batch rows query_len"]:
    """How much each input token reaches mixtures of the output tokens (Abnar and Zuidema 2020, section 3).

    `rollout = shares A_L ... A_2 A_1` with `A_l = (1 - residual) W_l + residual I`, W_l being the weights of layer l,
    averaged over its heads; the identity stands for the residual connection, which the paper weighs 0.5. Rows sum to
    what those of `shares` sum to, where rows of W_l sum to 1. Multiplied from the left, so that no product of two
    matrices is ever made. The paper's whole matrix has the identity for `shares`.

    Args:
        calls: The self-attention of each layer, the first layer first.
        shares: What each row has of each output token.
        residual: Share of the residual connection, from 0 to 1.

    Raises:
        ValueError: If there are no calls, `residual` is not in [0, 1], or a layer's queries are not the tokens that
            `shares` are about.
    """
    if not calls:
        raise ValueError("calls: attention rollout needs at least one layer")
    if not 0 <= residual <= 1:
        raise ValueError(f"residual={residual} is not a share from 0 to 1")
    length = shares.shape[2]
    for number, call in enumerate(calls):
        if (call.q.shape[2], call.k.shape[2]) != (length, length):
            raise ValueError(
                f"calls[{number}]: rollout follows {length} tokens through self-attention, but here "
                f"{call.q.shape[2]} queries see {call.k.shape[2]} keys"
            )
    rolled = shares
    for call in reversed(calls):
        rolled = (1 - residual) * call.rows(rolled).mean(1) + residual * rolled
    return rolled


def each_sequence(calls: Sequence[AttentionCall]) -> list[AttentionCall]:
    """One call a sequence, whether they were in a batch or packed."""
    return [call.select(slice(row, row + 1)) for call in calls for row in range(len(call.q))]


@contextmanager
def _evaluating(attention: Attention) -> Iterator[None]:
    training = attention.training
    attention.eval()
    try:
        yield
    finally:
        attention.train(training)


def _differentiable(value: Any) -> Any:
    """The same, for autograd: a tensor made in inference mode may not be kept for a backward pass."""
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value

"""Activation checkpointing: less memory, the same numbers to the last bit."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from core import Decoder, Encoder, FullAttention, Packing
from core.masks import padding_mask
from tests.core.helpers import CAUSAL, gradients, normal, randomise, weighed, with_each

LENGTHS = torch.tensor([6, 2, 4])
PADDING = padding_mask(LENGTHS)
X, MEMORY = normal(3, 6, 8), normal(3, 6, 8, seed=2)


def encode(encoder: nn.Module, x: Tensor) -> Tensor:
    return encoder(x, pos=normal(1, 6, 8, seed=3), key_padding_mask=PADDING)


def encode_packed(encoder: nn.Module, x: Tensor) -> Tensor:
    packing = Packing(PADDING)
    return encoder(packing.pack(x), packing=packing)


def decode(decoder: nn.Module, x: Tensor) -> Tensor:
    return decoder(
        x,
        MEMORY,
        query_pos=normal(1, 6, 8, seed=3),
        pos=normal(1, 6, 8, seed=4),
        key_padding_mask=PADDING,
        memory_key_padding_mask=PADDING,
    )


stacks = pytest.mark.parametrize(
    ("stack", "call"),
    [(partial(Encoder, drop_path=0.5), encode), (partial(Encoder, drop_path=0.5), encode_packed), (Decoder, decode)],
    ids=["encoder", "packed encoder", "decoder"],
)


def both(stack: Callable[..., nn.Module], **arguments) -> list[nn.Module]:
    """A stack without checkpointing and one with it, of the same weights."""
    stacks = [stack(8, 2, 3, checkpoint_activations=checkpointed, **arguments) for checkpointed in (False, True)]
    for one in stacks:
        randomise(one)
    return stacks


def count_calls(module: nn.Module) -> list[int]:
    """A list that grows with each call of `module`."""
    calls = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


@with_each([*CAUSAL, partial(FullAttention, dropout=0.3)])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@stacks
def test_the_numbers_are_the_same_to_the_last_bit(stack, call, dropout, attention):
    results, states = [], []
    for one in both(stack, dropout=dropout, attention=attention):
        torch.manual_seed(0)
        x = X.clone().requires_grad_()
        output = call(one, x)
        states.append(torch.get_rng_state())
        results.append([output, *gradients(one, weighed(output), x)])
    assert all(map(torch.equal, *results))
    assert torch.equal(*states)  # what a training loop draws next


@stacks
def test_a_layer_is_computed_again_in_the_backward_pass_alone(stack, call):
    for one, expected in zip(both(stack), (1, 2), strict=True):
        counts = [count_calls(layer.feedforward.linear1) for layer in one.layers]
        output = call(one, X)
        assert list(map(len, counts)) == [1, 1, 1]
        output.sum().backward()
        assert list(map(len, counts)) == [expected] * 3


@stacks
def test_between_the_passes_a_layer_keeps_nothing_but_its_input(stack, call):
    kept = []
    for one in both(stack):
        own, sizes = {parameter.data_ptr() for parameter in one.parameters()}, []

        def keep(tensor: Tensor, own=own, sizes=sizes) -> Tensor:
            sizes.append(0 if tensor.untyped_storage().data_ptr() in own else tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            call(one, X.clone().requires_grad_())
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 5


@stacks
def test_nothing_is_computed_again_without_need(stack, call):
    _, one = both(stack)
    calls = count_calls(one.layers[0].feedforward.linear1)
    with torch.no_grad():
        call(one, X)
    call(one.eval(), X).sum().backward()
    assert len(calls) == 2


def test_a_cache_is_filled_once():
    """Even in a model that is left in training mode: a layer that ran twice would write twice."""
    plain, checkpointed = both(partial(Decoder, cross_attention=None))
    outputs = []
    for decoder in (plain, checkpointed):
        cache = decoder.make_cache()
        with torch.no_grad():
            outputs.append(torch.cat([decoder(X[:, step : step + 1], cache=cache) for step in range(6)], 1))
    assert torch.equal(*outputs)

"""What the tests of each task's explanation share."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from core.explain import AttentionCall, record_attention
from tasks.base import TaskModule
from tasks.explanation import Explanation
from tests.core.helpers import assert_same


def explained(
    module: TaskModule, batch: dict[str, Any], names: Sequence[str] = ()
) -> tuple[list[Explanation], dict[str, list[AttentionCall]]]:
    """What `explain` gives of a batch, and the calls that it is made of, after two checks.

    The predictions are those of an unrecorded pass, bit for bit; and each call's weights times its values are what its
    mechanism gave in the pass that predicted.
    """
    module.eval()
    layers = module.explained_layers()
    mechanisms = dict(module.network.named_modules())
    mixed: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in layers}
    with torch.inference_mode():
        predicted = module.predict_step(batch, 0)
        with record_attention(module.network, layers=layers) as recorded:
            hooks = [
                mechanisms[f"{name}.attention"].register_forward_hook(
                    lambda _, args, output, name=name: mixed[name].append((args[2], output))
                )
                for name in layers
            ]
            again = module.predict_step(batch, 0)
        for hook in hooks:
            hook.remove()
        assert_identical(predicted, again)
        for name, calls in recorded.items():
            for call, (values, output) in zip(calls, mixed[name], strict=True):
                assert_same(call.weights() @ values, output)
        calls = {name: list(calls) for name, calls in recorded.items()}
        return list(module.explain(batch, again, calls, names)), calls


def assert_identical(first: Any, second: Any) -> None:
    """The same tensors, bit for bit, wherever they stand."""
    assert type(first) is type(second)
    if isinstance(first, Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert_identical([*first.items()], [*second.items()])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_identical(one, other)
    elif hasattr(first, "equals"):  # pandas
        assert first.equals(second)
    else:
        assert first == second


def last_layer(calls: Sequence[AttentionCall]) -> Tensor:
    """All weights of the last of some layers, mean over heads: (batch, tokens, tokens)."""
    return calls[-1].weights().mean(1)


def rollout(calls: Sequence[AttentionCall]) -> Tensor:
    """Abnar and Zuidema 2020, section 3, as matrices: (batch, tokens, tokens)."""
    rolled = torch.eye(calls[0].q.shape[2])
    for call in calls:
        rolled = (0.5 * call.weights().mean(1) + 0.5 * torch.eye(call.q.shape[2])) @ rolled
    return rolled

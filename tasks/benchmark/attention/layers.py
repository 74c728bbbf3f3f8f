"""What a child process of `python -m tasks.benchmark attention` does: all contenders at one length."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tasks.benchmark.attention.contenders import CONTENDERS, Contender
from tasks.benchmark.attention.floors import FLOORS
from tasks.benchmark.attention.limits import limit_gpu_memory, limit_memory
from tasks.benchmark.attention.plan import GIBIBYTE, Plan, Shape
from tasks.benchmark.measure import MEBIBYTE, floor_of, interleave, peak_memory, prepare


class Trail:
    """A file that says which contender runs, so that the parent knows whose call has ended the process.

    Args:
        path: The file.
    """

    WIDTH = 40

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb", buffering=0)

    def mark(self, name: str) -> None:
        """Writes who runs from now on, over who ran before; takes microseconds."""
        self.file.seek(0)
        self.file.write(f"{name:<{self.WIDTH}}".encode())

    def along(self, name: str, call: Callable[[], object]) -> Callable[[], object]:
        """The call, marked."""

        def marked() -> None:
            self.mark(name)
            call()

        return marked

    @staticmethod
    def last(path: Path) -> str | None:
        """Who ran at the end; None where nobody did."""
        return path.read_text(encoding="utf-8").strip() if path.exists() else None


def measure_layers(plan: Plan, shape: Shape, names: Sequence[str], trail_path: Path) -> dict[str, Any]:
    """Measures contenders in turns, beside the floors of each.

    Any contender's exception ends the measurement: the parent reads from the trail whose it was and starts anew.

    Args:
        plan: The command's options.
        shape: The layer and its sequence.
        names: Who takes part.
        trail_path: Where the trail is left.

    Returns:
        `seconds`: of one call in each round, by contender; `floor_seconds`: of its floor, None on a GPU;
        `peak_bytes`: by contender; `freed_memory_kept`.
    """
    trail = Trail(trail_path)
    freed_kept = prepare(plan.threads, plan.device, getattr(torch, plan.dtype))
    if plan.memory_limit is not None:
        limit = limit_memory if plan.device == "cpu" else limit_gpu_memory
        limit(int(plan.memory_limit * GIBIBYTE))
    calls: dict[str, Callable[[], object]] = {}
    peaks = {}
    for name in names:
        trail.mark(name)
        step = step_of_layer(CONTENDERS[name], shape)
        peaks[name] = int(peak_memory(lambda step=step: step, calls=1) * MEBIBYTE)
        calls[name] = trail.along(name, step)
    # A GPU spends the time of a floor's many small products on launching them.
    floors = dict.fromkeys(CONTENDERS[name].floor for name in names) if plan.device == "cpu" else {}
    for floor in floors:
        calls[f"floor of {floor}"] = trail.along(f"floor of {floor}", floor_of("train", FLOORS[floor](shape)))
    times = interleave(calls, plan.rounds, plan.seconds)
    seconds = {name: [milliseconds / 1e3 for milliseconds in values] for name, values in times.items()}
    return {
        "freed_memory_kept": freed_kept,
        "peak_bytes": peaks,
        "floor_seconds": {name: seconds.get(f"floor of {CONTENDERS[name].floor}") for name in names},
        "seconds": {name: seconds[name] for name in names},
    }


def step_of_layer(contender: Contender, shape: Shape) -> Callable[[], object]:
    """Forward and backward on random tokens, for the gradients of the tokens and of all weights."""
    layer = contender.make(shape)
    x = torch.randn(1, shape.length, shape.width, requires_grad=True)
    gradient = torch.randn(1, shape.length, shape.width)

    def step() -> None:
        layer.zero_grad()
        x.grad = None
        layer(x, is_causal=shape.causal).backward(gradient)

    return step

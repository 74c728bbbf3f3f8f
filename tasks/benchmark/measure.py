"""Times and memory of two implementations of one network, and of the matrix products that neither can avoid.

One process alone can be off by 15 percent, by where its memory happens to lie: a measurement takes several fresh
processes, and inside each the contenders take turns, in alternating order, so that what slows the machine for a
while slows all of them.
"""

import gc
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from core.linear import linear
from tasks.memory import keep_freed_memory

MODES = ("train", "inference")
CONTENDERS = ("ours", "peer", "floor")
MEBIBYTE = 2**20
WARM_UP = 5.0
"""Seconds after which a contender counts as warm, however few its calls."""


Batch = tuple[tuple[Any, ...], Tensor | None]
"""A network's inputs, and what it shall tell; None = the inputs say it."""


@dataclass(frozen=True)
class Product:
    """A matrix product of the forward pass: `repeat` times, `batch` independent (rows x inner) @ (inner x columns).

    Attributes:
        input_grad: Whether the backward pass needs the gradient of the left factor; a picture's pixels need none.
        weight_grad: Whether it needs that of the right factor; a frozen weight needs none.
    """

    rows: int
    inner: int
    columns: int
    batch: int = 1
    repeat: int = 1
    input_grad: bool = True
    weight_grad: bool = True

    def flops(self, mode: str) -> int:
        """Multiplications and additions; backward, each factor's gradient is a product of the same cost."""
        forward = 2 * self.repeat * self.batch * self.rows * self.inner * self.columns
        return forward * (1 + self.input_grad + self.weight_grad) if mode == "train" else forward


@dataclass(frozen=True)
class Case:
    """A network at one size, ours beside a peer's.

    Attributes:
        name: Names the size on the command line.
        title: Says the size.
        peer_name: Whose implementation the peer is.
        ours: Makes our network.
        peer: Makes the peer's network, of the same sizes.
        batch: Makes the network's inputs and what it shall tell.
        products: The matrix products of the network as published: the floor.
        listed: Whether `all` sizes include it.
        loss: Of the network's output and what it shall tell; None = in training the network gives the loss itself.
        modes: What is measured of it.
        ours_products: Those that ours computes, where they are not `products`.
        peer_products: Those that the peer computes in inference, where they are not `products`.
        part: Name of a part of our train step whose share is told, and what makes it, of our network and the inputs.
    """

    name: str
    title: str
    peer_name: str
    ours: Callable[[], nn.Module]
    peer: Callable[[], nn.Module]
    batch: Callable[[], Batch]
    products: tuple[Product, ...]
    listed: bool = True
    loss: Callable[[Tensor, Any], Tensor] | None = F.cross_entropy
    modes: tuple[str, ...] = MODES
    ours_products: tuple[Product, ...] | None = None
    peer_products: tuple[Product, ...] | None = None
    part: tuple[str, Callable[..., Callable[[], object]]] | None = None


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile; a single value is all three.

    >>> quartiles([4.0, 1.0, 2.0, 3.0, 5.0])
    (2.0, 3.0, 4.0)
    """
    if len(values) == 1:
        return values[0], values[0], values[0]
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, median, third


def interleave(contenders: dict[str, Callable[[], object]], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Times contenders in turns, every other round in reverse order.

    Args:
        contenders: What is timed; each is called before, which also tells how often a round calls it: three times,
            or fewer once that has taken `WARM_UP` seconds.
        rounds: Number of rounds.
        seconds: Time that a contender takes in a round, at least.

    Returns:
        Milliseconds a call, one number a round.
    """
    repeats = {}
    for name, call in contenders.items():
        took = [_seconds(call)]
        while len(took) < 3 and sum(took) < WARM_UP:
            took.append(_seconds(call))
        repeats[name] = max(1, -int(-seconds // min(took)))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in list(contenders) if number % 2 == 0 else list(reversed(contenders)):
            call, repeat = contenders[name], repeats[name]
            times[name].append(_seconds(call, repeat) / repeat * 1e3)
    return times


def step_of(case: Case, mode: str, network: nn.Module, batch: Batch) -> Callable[[], object]:
    """A train step (gradients cleared, forward, the case's loss, backward, fused AdamW) or an inference."""
    inputs, target = batch
    if mode == "inference":
        network.eval()
        return torch.inference_mode()(lambda: network(*inputs))
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        output = network(*inputs)
        (output if case.loss is None else case.loss(output, target)).backward()
        optimizer.step()

    return step


def floor_of(mode: str, products: Sequence[Product]) -> Callable[[], object]:
    """The bare products of a step; a single one as `core.linear` has it, many into memory that is allocated before."""
    calls: list[Callable[[], object]] = []
    for p in products:
        left, right = torch.randn(p.batch, p.rows, p.inner), torch.randn(p.batch, p.columns, p.inner)
        out = torch.randn(p.batch, p.rows, p.columns)
        triples = [(left, right.mT, out)]
        if mode == "train":
            if p.weight_grad:
                triples.append((out.mT, left, torch.empty_like(right)))
            if p.input_grad:
                triples.append((out, right, torch.empty_like(left)))
        calls += [_product(*triple) for triple in triples] * p.repeat

    @torch.inference_mode()
    def floor() -> None:
        for call in calls:
            call()

    return floor


def _product(left: Tensor, right: Tensor, out: Tensor) -> Callable[[], object]:
    if len(left) == 1:
        return partial(linear, left[0], right[0].mT)
    # A gradient overwrites its own buffer only: `out` of the forward product serves as the gradient that comes back.
    return lambda: torch.bmm(left, right, out=out)


def peak_memory(make_step: Callable[[], Callable[[], object]], *, calls: int = 2) -> float:
    """Highest total of the allocator of torch's default device while a step is made and taken, above what stood before.

    All that making and taking it allocates counts: for a network made inside, weights, gradients, the optimiser's
    state and activations; for one that stood before, gradients and activations alone. On the CPU the profiler records
    each allocation and the total after it (`[memory]` events in its trace); it slows a step down, so no time is taken
    under it. On a GPU the allocator itself keeps the peak.

    Args:
        make_step: Makes the step.
        calls: How often the step is taken.

    Returns:
        MiB.
    """
    gc.collect()
    if torch.get_default_device().type == "cuda":
        return _peak_on_gpu(make_step, calls) / MEBIBYTE
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step = make_step()
        for _ in range(calls):
            step()
        del step
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        trace = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    events = [event for event in trace if event.get("name") == "[memory]" and event["args"]["Device Type"] == 0]
    first = min(events, key=lambda event: event["ts"])["args"]
    before = first["Total Allocated"] - first["Bytes"]
    return (max(event["args"]["Total Allocated"] for event in events) - before) / MEBIBYTE


def _peak_on_gpu(make_step: Callable[[], Callable[[], object]], calls: int) -> int:
    make_step()()  # libraries take their workspaces at the first call, and keep them
    _settle()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step = make_step()
    for _ in range(calls):
        step()
    _settle()
    return torch.cuda.max_memory_allocated() - before


def measure(case: Case, mode: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Measures a case in this process: times of each contender, peaks, and the machine's own speed."""
    batch = case.batch()
    makers = {"ours": case.ours, "peer": case.peer}
    peaks = {name: peak_memory(lambda make=make: step_of(case, mode, make(), batch)) for name, make in makers.items()}
    square, out = torch.randn(2048, 2048), torch.empty(2048, 2048)
    contenders = {name: step_of(case, mode, make(), batch) for name, make in makers.items()}
    contenders["floor"] = floor_of(mode, case.products)
    contenders["square"] = lambda: torch.mm(square, square, out=out)
    if case.part is not None and mode == "train":
        name, make = case.part
        contenders[name] = make(case.ours(), *batch[0])
    times = interleave(contenders, rounds, seconds)
    gigaflops = [2 * 2048**3 / milliseconds / 1e6 for milliseconds in times.pop("square")]
    return {"times_ms": times, "peak_mib": peaks, "square_gflops": gigaflops}


def in_fresh_process(function: Callable[..., Any], *args: Any) -> Any:
    """Calls a function in a process of its own, started from nothing."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler greets on stderr
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def prepare(threads: int, device: str = "cpu", dtype: torch.dtype = torch.float32) -> bool:
    """Makes this process ready to measure; the same for all contenders. Returns whether freed memory is kept."""
    torch.set_num_threads(threads)
    torch.set_default_device(device)
    torch.set_default_dtype(dtype)
    torch.manual_seed(0)
    return keep_freed_memory()


def _seconds(call: Callable[[], object], repeat: int = 1) -> float:
    """Of so many calls, the work that they have left to a GPU included."""
    _settle()
    start = time.perf_counter()
    for _ in range(repeat):
        call()
    _settle()
    return time.perf_counter() - start


def _settle() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()

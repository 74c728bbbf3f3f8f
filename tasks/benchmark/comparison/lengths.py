"""Time and memory of a layer against length, with the measurements of `python -m tasks.benchmark attention`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from tasks.benchmark.attention import plan as attention
from tasks.benchmark.attention.limits import available_memory
from tasks.benchmark.attention.points import measure_point
from tasks.benchmark.attention.rows import Row, rows_of
from tasks.benchmark.attention.summary import summarise
from tasks.benchmark.comparison.experiments import MECHANISMS, REFERENCE
from tasks.benchmark.comparison.plan import Plan

LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384)


def measure_length(plan: Plan, length: int, rows: Sequence[Row], console: Console) -> list[Row]:
    """Measures the mechanisms at one length.

    Args:
        plan: The comparison's options; classes of a user's own take no part.
        length: Tokens of the sequence.
        rows: What is known of shorter ones.
        console: Where it is said who takes no part.
    """
    layers = _plan_of_layers(plan, length)
    shape = layers.shape(length, causal=False)
    results, refused = measure_point(layers, shape, layers.attentions, rows, console)
    return rows_of(shape, layers.attentions, results, refused, REFERENCE)


def scaling_of(plan: Plan, rows: Sequence[Row]) -> dict[str, Any] | None:
    """The part of the report; None where nothing is measured."""
    if not rows:
        return None
    layers = _plan_of_layers(plan, LENGTHS[0])
    return {
        "rows": list(rows),
        "crossovers": summarise(rows, REFERENCE)["crossovers"],
        "note": f"one layer of width {layers.width} with its projections, {layers.heads} heads, batch 1, forward and "
        f"backward; Longformer's window {layers.window} with {layers.global_tokens} global tokens, sparse's stride the "
        f"root of the length; {layers.processes} process of {layers.rounds} rounds",
    }


def _plan_of_layers(plan: Plan, length: int) -> attention.Plan:
    return attention.Plan(
        lengths=(length,),
        attentions=tuple(name for name in plan.attentions if name in MECHANISMS),
        causal="no",
        processes=1,
        rounds=plan.rounds,
        seconds=0.1 if plan.quick else 0.2,
        threads=plan.threads,
        width=256,
        heads=4,
        window=256,
        global_tokens=4,
        time_limit=60.0,
        output=Path(),
        memory_limit=0.8 * available_memory() / attention.GIBIBYTE,
    )

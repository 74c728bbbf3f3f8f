"""One length of `python -m tasks.benchmark attention`: who takes part, who drops out, and why."""

import tempfile
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from tasks.benchmark.attention.contenders import CONTENDERS, need_of
from tasks.benchmark.attention.layers import Trail, measure_layers
from tasks.benchmark.attention.limits import foresee_seconds, is_out_of_memory
from tasks.benchmark.attention.plan import GIBIBYTE, Plan, Shape
from tasks.benchmark.attention.rows import FAILED, SKIPPED, Row, measured
from tasks.benchmark.measure import in_fresh_process

Refused = dict[str, tuple[str, str]]
"""Status and reason of those that take no part, or not to the end, by contender."""


def measure_point(
    plan: Plan, shape: Shape, names: Sequence[str], rows: Sequence[Row], console: Console
) -> tuple[list[dict[str, Any]], Refused]:
    """Measures all contenders at one length, in so many fresh processes.

    Args:
        plan: The command's options.
        shape: The layer and its sequence.
        names: Who takes part.
        rows: What is known from shorter sequences.
        console: Where the progress goes.

    Returns:
        What each process measured, and who took no part, or not to the end.
    """
    refused: Refused = {}
    for name in names:
        reason = too_much(name, shape, rows, plan)
        if reason:
            refused[name] = SKIPPED, reason
    results = []
    for number in range(plan.processes):
        while running := [name for name in names if name not in refused]:
            console.print(
                f"{shape}: process {number + 1} of {plan.processes}: {', '.join(running)}", style="dim", soft_wrap=True
            )
            result = attempt(plan, shape, running, refused)
            if result is not None:
                results.append(result)
                break
    for name, (status, reason) in refused.items():
        console.print(f"{shape}: {name} {status}, {reason}", style="dim", soft_wrap=True)
    return results, refused


def too_much(name: str, shape: Shape, rows: Sequence[Row], plan: Plan) -> str | None:
    """Why a contender probably exceeds a limit, judging by shorter sequences; None if it does not."""
    known = {length: row for length, row in measured(rows, name, shape.causal).items() if length < shape.length}
    need = float(need_of(name, shape))
    if known:
        longest = max(known)
        need *= known[longest]["peak_bytes"] / need_of(name, replace(shape, length=longest))
    if plan.memory_limit is not None and need > plan.memory_limit * GIBIBYTE:
        return f"it needs about {need / GIBIBYTE:.3g} GiB, more than --memory-limit {plan.memory_limit:.3g}"
    times = {length: row["seconds"] for length, row in known.items()}
    seconds = foresee_seconds(times, shape.length, CONTENDERS[name].growth)
    if seconds is not None and seconds > plan.time_limit:
        return f"a call takes about {seconds:.3g} s, more than --time-limit {plan.time_limit:g}"
    return None


def attempt(plan: Plan, shape: Shape, names: Sequence[str], refused: Refused) -> dict[str, Any] | None:
    """Measures in a fresh process; None if a contender has ended it, which is then noted among the refused."""
    with tempfile.TemporaryDirectory() as folder:
        trail = Path(folder) / "trail"
        try:
            return in_fresh_process(measure_layers, plan, shape, names, trail)
        except Exception as error:
            culprit = Trail.last(trail)
            if culprit is None or culprit not in names:
                raise
            refused[culprit] = _judged(error, plan)
            return None


def _judged(error: Exception, plan: Plan) -> tuple[str, str]:
    if isinstance(error, BrokenProcessPool):
        return FAILED, "its process was killed, probably for want of memory"
    if is_out_of_memory(error):
        return SKIPPED, f"its process needs more GiB than --memory-limit {plan.memory_limit:.3g}"
    first_line = (str(error).splitlines() or [""])[0]
    return FAILED, f"{type(error).__name__}: {first_line}"

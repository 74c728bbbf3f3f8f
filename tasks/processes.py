"""What the processes of one run share: values of all of them, one at a time or as a mean, and who of them writes."""

import os
from contextlib import suppress
from signal import strsignal
from subprocess import Popen, TimeoutExpired
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only
from torch import Tensor, distributed, nn

from tasks.errors import PeerLost, TaskError


def is_first() -> bool:
    """Whether this process is the one that writes and speaks, be it alone or the first of several."""
    # Of several machines Lightning tells the numbers only when its trainer is made.
    return getattr(rank_zero_only, "rank", 0) == 0 and int(os.environ.get("NODE_RANK", 0)) == 0


def is_alone() -> bool:
    """Whether no other process trains with this one."""
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1


def gathered(value: Any) -> list[Any]:
    """The value of every process, in their order. All of them have to ask."""
    if is_alone():
        return [value]
    every: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(every, value)
    return every


def averaged(values: Tensor) -> Tensor:
    """The mean over all processes, without a gradient. All of them have to ask."""
    values = values.detach()
    if is_alone():
        return values
    values = values.clone()
    distributed.all_reduce(values)
    return values / distributed.get_world_size()


def share_buffers(module: nn.Module) -> None:
    """Gives every process the first one's buffers: a batch norm's statistics are those of a process's own batches."""
    if not is_alone():
        for buffer in module.buffers():
            if buffer.numel():
                distributed.broadcast(buffer, 0)


def end_others(error: Exception, started: list[Popen]) -> TaskError | None:
    """Ends the processes that this one has started, after an error in this one.

    Args:
        error: As torch or anything else raised it.
        started: The processes; then none, since Lightning kills this one too where it finds one that has failed.

    Returns:
        What to tell instead, if the error is the loss of another process: nothing, where that one could tell itself.
    """
    others, started[:] = list(started), []
    reason = None
    if not is_alone() and (isinstance(error, distributed.DistError) or "by peer" in str(error)):
        reason = PeerLost()
        for number, process in enumerate(others, start=1):
            with suppress(TimeoutExpired):
                if (code := process.wait(timeout=5)) < 0:
                    reason = TaskError(f"process {number} of this run was ended by signal {-code} ({strsignal(-code)})")
    for process in others:
        process.kill()
    return reason

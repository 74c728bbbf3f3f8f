"""What a contender may take: memory and time, foreseen from shorter sequences and enforced by the system."""

import math
import os
from collections.abc import Mapping
from pathlib import Path

import torch


def available_memory() -> int:
    """Bytes that a new process can have without swapping; the whole memory where the system does not say.

    Raises:
        OSError: If the system does not even say that.
    """
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def available_gpu_memory() -> int:
    """Bytes that are free on the GPU."""
    return torch.cuda.mem_get_info()[0]


def limit_gpu_memory(extra: int) -> None:
    """Lets this process have so many bytes of the GPU: more fails with an exception that can be read."""
    torch.cuda.set_per_process_memory_fraction(min(1.0, extra / torch.cuda.mem_get_info()[1]))


def limit_memory(extra: int) -> bool:
    """Lets this process allocate so many bytes more: an allocation beyond fails with an exception that can be read.

    Without it the system would let the process grow and then kill it, or another. Returns whether the system listens;
    only Linux does.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return False
    import resource

    (data,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmData:"))
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    wanted = int(data) * 1024 + extra
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    return True


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that an allocation failed; torch has a class of its own for it on a GPU alone.

    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."))
    True
    """
    said = str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        words in said for words in ("not enough memory", "can't allocate memory", "std::bad_alloc")
    )


def foresee_seconds(measured: Mapping[int, float], length: int, growth: float) -> float | None:
    """The time of a call at a length, from the times at shorter ones.

    Args:
        measured: Seconds by length.
        length: What is asked for.
        growth: Exponent of the time in the length; used while there is one shorter length only, and else measured on
            the two longest.

    >>> foresee_seconds({1024: 1.0, 2048: 4.0}, 4096, growth=1.0)
    16.0
    """
    shorter = sorted(each for each in measured if each < length)
    if not shorter:
        return None
    last = shorter[-1]
    if len(shorter) > 1:
        before = shorter[-2]
        growth = math.log(measured[last] / measured[before]) / math.log(last / before)
    return measured[last] * (length / last) ** growth

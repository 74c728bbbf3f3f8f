"""The machine and the commit that a result comes from."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch


def machine(threads: int, *peers: str) -> dict[str, Any]:
    """What the times depend on.

    Args:
        threads: Threads of torch.
        peers: The peers' packages, whose versions count too; None stands where one is not installed.
    """
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{peer: _version(peer) for peer in peers},
    }


def computer() -> str:
    """The machine that something was trained on, in a few words."""
    return f"{_cpu()}, {os.cpu_count()} cores, torch {torch.__version__}"


def commit() -> str | None:
    """The commit of the code that runs, with a `+` if files differ from it; None outside a repository."""
    root = Path(__file__).resolve().parents[1]

    def git(*args: str) -> str:
        return subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "--short=12", "HEAD").strip() + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu() -> str:
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        cpu = models[0].split(":", 1)[1].strip() if models else cpu
    return cpu


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

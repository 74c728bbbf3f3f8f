"""Trainings that are killed by SIGKILL, or find the disk full, go on to the last bit as if nothing had been.

Each command runs in a fork of this process, so that torch is imported but once.
"""

import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch

from tasks.base import TaskModule
from tests.tasks.conftest import losses
from tests.tasks.several import GIVE, figures

SHORT = {"vit": ["--data.batch_size=5"], "detr": ["--data.batch_size=3"], "asr": ["--data.batch_seconds=1"]}
SHORT["forecast"] = ["--data.batch_size=16"]
OFTEN = ["--trainer.val_check_interval=3"]
"""A checkpoint after every third step: within an epoch, too."""


def fork(task: str, args: list[str], said: Path, prepare: Callable[[], None] = lambda: None) -> int:
    """Begins a command in a process of its own, which writes what it says to a file."""
    process = os.fork()
    if process:
        return process
    code = 99
    try:
        words = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(words, 1)
        os.dup2(words, 2)
        sys.stdout = sys.stderr = os.fdopen(words, "w", buffering=1)
        prepare()
        code = import_module(f"tasks.{task}.__main__").main(args)
    finally:
        os._exit(code)


def ended(process: int) -> int:
    """How it ended: its exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def die_while_saving(times: int) -> Callable[[], None]:
    """Kills the process when a file is written for so many times, and not yet in its place."""

    def prepare() -> None:
        left = iter(range(times))
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL) if next(left, None) is None else None

    return prepare


def newest(runs: Path, task: str) -> list[Path]:
    return (
        sorted((runs / task).glob("*"), key=lambda run: run.stat().st_ctime_ns, reverse=True) if runs.exists() else []
    )


def kill_after(process: int, steps: int, runs: Path, task: str, known: int, rest: float) -> int:
    """Kills a process from outside, a moment after its log has so many steps."""
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        made = newest(runs, task)
        if len(made) > known and (made[0] / "metrics.csv").exists() and len(losses(made[0])) >= steps:
            time.sleep(rest)
            os.kill(process, signal.SIGKILL)
            return ended(process)
        time.sleep(0.002)
    return 0


def kill_often(task: str, args: list[str], folder: Path, kills: int, draw: random.Random) -> tuple[list[Path], int]:
    """Trains with so many kills, each at a random step or while a file is written; gives all runs, the last first."""
    runs, resume, done = folder / "killed", [], 0
    while done < kills:
        known = len(newest(runs, task))
        command = ["fit", *(resume or args), f"--runs={runs}"]
        if draw.random() < 0.3:
            done += ended(fork(task, command, folder / "said", die_while_saving(draw.randint(1, 4)))) == -signal.SIGKILL
        else:
            process = fork(task, command, folder / "said")
            done += kill_after(process, draw.randint(1, 5), runs, task, known, draw.random() / 50) == -signal.SIGKILL
        for run in newest(runs, task):
            if (last := run / "checkpoints/last.ckpt").exists():
                torch.load(last, weights_only=True)
                resume = [f"--ckpt_path={last}"]
                break
    assert ended(fork(task, ["fit", *(resume or args), f"--runs={runs}"], folder / "said")) == 0
    return newest(runs, task), done


def check(task: str, workers: int, kills: int, epochs: int, folder: Path, seed: int) -> None:
    args = [
        *GIVE[task](folder).args,
        *SHORT[task],
        *OFTEN,
        f"--trainer.max_epochs={epochs}",
        f"--data.num_workers={workers}",
    ]
    assert ended(fork(task, ["fit", *args, f"--runs={folder / 'whole'}"], folder / "said")) == 0
    (whole,) = (folder / "whole" / task).iterdir()
    runs, done = kill_often(task, args, folder, kills, random.Random(seed))
    assert done == kills
    expected, found = losses(whole), {}
    for run in filter(lambda run: (run / "metrics.csv").exists(), reversed(runs)):
        for step, loss in losses(run).items():
            assert loss == expected[step], f"step {step} of {run}"
        found |= losses(run)
    assert found == expected
    assert figures(runs[0]) == figures(whole)


@pytest.mark.parametrize("workers", [0])
def test_a_killed_training_goes_on_bitwise(workers, tmp_path):
    check("forecast", workers, kills=3, epochs=2, folder=tmp_path, seed=random.randrange(10**6))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("task", GIVE)
def test_twenty_kills(task, workers, tmp_path):
    check(task, workers, kills=20, epochs=10, folder=tmp_path, seed=0)


def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint_whole(tmp_path):
    """The kernel refuses to write: files may be of 20 kB at most from step 4 on, when there is a checkpoint."""
    args = ["fit", *GIVE["forecast"](tmp_path).args, *SHORT["forecast"], *OFTEN]

    def fill_the_disk() -> None:
        original = TaskModule.on_train_batch_start

        def start(module: TaskModule, batch: object, batch_idx: int) -> None:
            if module.global_step == 4:
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
            original(module, batch, batch_idx)

        TaskModule.on_train_batch_start = start

    assert ended(fork("forecast", [*args, f"--runs={tmp_path / 'whole'}"], tmp_path / "said")) == 0
    assert ended(fork("forecast", [*args, f"--runs={tmp_path / 'full'}"], tmp_path / "said", fill_the_disk)) == 1
    (error,) = [line for line in (tmp_path / "said").read_text().splitlines() if line.startswith("error: ")]
    assert ".ckpt cannot be written: File too large" in error
    assert "Traceback" not in (tmp_path / "said").read_text()
    (whole,), (full,) = ((tmp_path / name / "forecast").iterdir() for name in ("whole", "full"))
    assert torch.load(full / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 3
    assert {file.name for file in (full / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    resume = ["fit", f"--ckpt_path={full / 'checkpoints/last.ckpt'}", f"--runs={tmp_path / 'on'}"]
    assert ended(fork("forecast", resume, tmp_path / "said")) == 0
    (on,) = (tmp_path / "on" / "forecast").iterdir()
    assert losses(full) | losses(on) == losses(whole)
    assert figures(on) == figures(whole)

"""Trainings of the tasks' own command line, several at a time, each in a process of its own.

What is finished is on record in its folder and is not trained again: work that was killed goes on where it was.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.machine import commit, computer
from tasks.progress import Progress
from tasks.run import write_whole

DONE, FAILED = "done", "failed"
_ROOT = Path(__file__).resolve().parents[1]
_FOLLOW = (
    "import ctypes, runpy, sys; getattr(ctypes.CDLL(None), 'prctl', lambda *_: 0)(1, 9); "
    "del sys.argv[0]; runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)
"""Runs a module as `python -m` does, in a process that Linux kills when its parent is killed (PR_SET_PDEATHSIG)."""
_QUIET = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.logger=false")


@dataclass(frozen=True)
class Training:
    """One `python -m tasks.TASK fit ARGS`.

    Attributes:
        name: Names its folder; unlike all others.
        task: Name of the task.
        args: What follows `fit`; `{run:NAME}` stands for the run's folder of another training, `{folder}` for that of
            all trainings.
        seed: Of the weights, the order of the data and all else that is random.
        weight: Seconds that it probably takes; only their ratios matter once some are finished.
        after: Names of those that must be finished before.
        goes_on: Whether one that did not end goes on from its last checkpoint. Otherwise it begins anew, so that its
            seconds are those of a whole training.
    """

    name: str
    task: str
    args: tuple[str, ...]
    seed: int
    weight: float = 60.0
    after: tuple[str, ...] = ()
    goes_on: bool = False

    @property
    def command(self) -> str:
        """The command that a user types for it."""
        return " ".join(["python -m", f"tasks.{self.task}", "fit", *self.args, f"--seed_everything={self.seed}"])


@dataclass(frozen=True)
class Finished:
    """What became of a training.

    Attributes:
        status: `done` or `failed`.
        reason: Why it failed, in a line.
        metrics: Those of validation and test, as in its `metrics.json`.
        seconds: Wall time of its process.
        cpu_seconds: Processor time of its process.
        command: What was run.
        run: Its run's folder, relative to that of all trainings.
        commit: Of the code that ran.
        machine: That it ran on: a run can be gone on with on another.
    """

    status: str
    reason: str | None
    metrics: dict[str, float]
    seconds: float
    cpu_seconds: float
    command: str
    run: str | None
    commit: str | None
    machine: str | None = None


def run_trainings(
    trainings: Sequence[Training],
    folder: Path,
    *,
    progress: Progress,
    jobs: int,
    threads: int = 1,
    told: Callable[[Training, Finished], str] = lambda *_: "",
) -> dict[str, Finished]:
    """Runs those that are not finished, in the given order as far as `after` allows; one that fails stops no other.

    Args:
        trainings: All trainings.
        folder: Where each has a folder of its name.
        progress: Knows them by their names.
        jobs: How many run at once.
        threads: Threads of torch in each.
        told: Says in a few words how a training ended.

    Returns:
        What became of each, by name.
    """
    finished = recorded(trainings, folder)
    waiting = [each for each in trainings if each.name not in finished]
    for name, known in finished.items():
        progress.skip(name, known.seconds)
    children = _Children()
    running: dict[Future[Finished], Training] = {}
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while waiting or running:
                for each in [each for each in waiting if finished.keys() >= set(each.after)][: jobs - len(running)]:
                    waiting.remove(each)
                    runs = {name: finished[name].run for name in each.after}
                    running[pool.submit(_train, each, folder, runs, threads, children)] = each
                    progress.start(each.name)
                done, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in done:
                    each = running.pop(future)
                    finished[each.name] = ended = future.result()
                    words = ended.reason if ended.status == FAILED else told(each, ended)
                    progress.finish(each.name, ended.seconds, ended.status, words or "")
                progress.refresh()
        except BaseException:
            children.end()
            raise
    return finished


def recorded(trainings: Sequence[Training], folder: Path) -> dict[str, Finished]:
    """What is done already, by name; one that failed, or was another command, is to be trained again."""
    return {each.name: known for each in trainings if (known := _on_record(each, folder)) is not None}


def with_runs(command: str, runs: Mapping[str, str | None], folder: Path) -> str:
    """Puts folders into a command: that of a run for `{run:NAME}`, which stays where it is not known, and `{folder}`.

    >>> with_runs("--model.encoder_from={run:a.0} {run:b.0}", {"a.0": "a.0/vit/1"}, Path("trainings"))
    '--model.encoder_from=trainings/a.0/vit/1 {run:b.0}'
    """
    with_folder = command.replace("{folder}", str(folder))
    return re.sub(
        r"\{run:(.*?)\}", lambda name: str(folder / known) if (known := runs.get(name[1])) else name[0], with_folder
    )


class _Children:
    """The processes that run, to be ended with this one."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self.ended = False

    def run(self, command: list[str], log: Path, environment: dict[str, str]) -> tuple[int, float]:
        """Runs a command to its end; gives its exit code, negative for a signal, and its processor seconds."""
        with log.open("wb") as output:
            with self._lock:
                if self.ended:
                    return -signal.SIGTERM, 0.0
                # A session of its own: Ctrl-C at the terminal reaches this process, which ends them all.
                process = subprocess.Popen(
                    command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
                )
                self._running.add(process)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            with self._lock:
                self._running.discard(process)
        return process.returncode, usage.ru_utime + usage.ru_stime

    def end(self) -> None:
        """Ends them all, and lets none begin."""
        with self._lock:
            self.ended = True
            for process in self._running:
                process.kill()


def _train(
    training: Training, folder: Path, runs: dict[str, str | None], threads: int, children: _Children
) -> Finished:
    own = folder / training.name
    last = _last_checkpoint(training, own)
    if own.exists() and last is None:
        shutil.rmtree(own)  # of an attempt that was killed, or failed
    own.mkdir(parents=True, exist_ok=True)
    write_whole(own / "command.txt", training.command + "\n")
    lacking = [name for name, run in runs.items() if run is None]
    if lacking:
        ended = _failed(training, f"{lacking[0]}, which it starts from, failed", 0.0)
    else:
        args = [with_runs(arg, runs, folder) for arg in training.args]
        command = [sys.executable, "-c", _FOLLOW, _module(training.task), "fit", *args, *_QUIET]
        command += [f"--seed_everything={training.seed}", f"--runs={own}"]
        command += [] if last is None else [f"--ckpt_path={last}"]
        start = time.monotonic()
        code, cpu_seconds = children.run(command, own / "log.txt", _environment(threads))
        seconds = time.monotonic() - start
        ended = _judge(training, folder, code, seconds, cpu_seconds)
    if not children.ended:
        write_whole(own / "finished.json", json.dumps(asdict(ended), indent=1) + "\n")
    return ended


def _last_checkpoint(training: Training, own: Path) -> Path | None:
    """The newest state that an earlier attempt at the same command has left, for one that goes on from there."""
    if not training.goes_on or not (own / "command.txt").exists():
        return None
    if (own / "command.txt").read_text(encoding="utf-8") != training.command + "\n":
        return None
    found = own.glob("*/*/checkpoints/last.ckpt")
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def _module(task: str) -> str:
    return f"tasks.{task}"


def _judge(training: Training, folder: Path, code: int, seconds: float, cpu_seconds: float) -> Finished:
    """Reads what a process has left."""
    own = folder / training.name
    lines = (own / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    last = lines[-1] if lines else ""
    if code < 0:
        name = signal.Signals(-code).name
        return _failed(training, f"its process was killed ({name}), perhaps for want of memory", seconds)
    if code > 0 or not last.startswith("run: "):
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return _failed(training, errors[-1] if errors else last or f"exit code {code}", seconds)
    run = Path(last.removeprefix("run: "))
    (run / "checkpoints" / "last.ckpt").unlink(missing_ok=True)  # the best is there still
    return Finished(
        status=DONE,
        reason=None,
        metrics=json.loads((run / "metrics.json").read_text(encoding="utf-8")),
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        command=training.command,
        run=str(run.resolve().relative_to(folder.resolve())),
        commit=commit(),
        machine=computer(),
    )


def _failed(training: Training, reason: str, seconds: float) -> Finished:
    return Finished(FAILED, reason, {}, seconds, 0.0, training.command, None, commit(), computer())


def _environment(threads: int) -> dict[str, str]:
    path = os.pathsep.join(part for part in (str(_ROOT), os.environ.get("PYTHONPATH")) if part)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def _on_record(training: Training, folder: Path) -> Finished | None:
    try:
        known: dict[str, Any] = json.loads((folder / training.name / "finished.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return Finished(**known) if (known["status"], known["command"]) == (DONE, training.command) else None

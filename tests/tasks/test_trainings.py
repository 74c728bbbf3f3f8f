import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.progress import Progress, format_left, seconds_left
from tasks.tables import make_console
from tasks.trainings import DONE, FAILED, Finished, Training, run_trainings


class Recorder(Progress):
    """Remembers what it is told."""

    def __init__(self, trainings: list[Training]) -> None:
        super().__init__(make_console(), {each.name: each.weight for each in trainings})
        self.events: list[tuple[str, str]] = []

    def start(self, name: str) -> None:
        self.events.append(("start", name))
        super().start(name)

    def finish(self, name: str, seconds: float, status: str, words: str = "") -> None:
        self.events.append((status, name))
        super().finish(name, seconds, status, words)


@pytest.fixture
def quick_task(tmp_path: Path, monkeypatch) -> Path:
    """A stand-in for `python -m tasks.NAME fit`: a real process, without the seconds that torch takes to import."""
    package = tmp_path / "python" / "stand_in"
    package.mkdir(parents=True)
    (package / "__main__.py").write_text(
        """
import json, os, pathlib, sys, time
options = dict(arg.removeprefix("--").split("=", 1) for arg in sys.argv[2:] if "=" in arg)
if "fail" in options:
    print("error: " + options["fail"], file=sys.stderr)
    sys.exit(2)
if "kill" in options:
    os.kill(os.getpid(), 9)
time.sleep(float(options.get("sleep", 0)))
run = pathlib.Path(options["runs"]) / "stand_in" / "run"
(run / "checkpoints").mkdir(parents=True)
(run / "checkpoints" / "last.ckpt").touch()
(run / "checkpoints" / "best.ckpt").touch()
metrics = {"test/seed": float(options["seed_everything"]), "test/threads": float(os.environ["OMP_NUM_THREADS"])}
(run / "metrics.json").write_text(json.dumps(metrics))
if "ckpt_path" in options:
    (run / "from").write_text(options["ckpt_path"])
if "from" in options:
    (run / "from").write_text(options["from"])
print(f"run: {run}")
"""
    )
    # The real tasks come first on the path of a child, and have no such module; so the stand-in is a task of its own.
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.setattr("tasks.trainings._module", lambda task: task)
    return tmp_path / "trainings"


def run(trainings: list[Training], folder: Path, jobs: int = 2) -> tuple[dict[str, Finished], list[tuple[str, str]]]:
    progress = Recorder(trainings)
    with progress:
        finished = run_trainings(trainings, folder, progress=progress, jobs=jobs)
    return finished, progress.events


def test_each_runs_in_a_process_of_one_thread_and_leaves_its_best_checkpoint(quick_task: Path):
    finished, _ = run([Training(f"a.{seed}", "stand_in", (), seed) for seed in range(3)], quick_task)
    assert [finished[f"a.{seed}"].metrics["test/seed"] for seed in range(3)] == [0, 1, 2]
    for each in finished.values():
        assert each.status == DONE
        assert each.metrics["test/threads"] == 1
        assert each.run is not None
        assert [path.name for path in (quick_task / each.run / "checkpoints").iterdir()] == ["best.ckpt"]
    assert finished["a.2"].command == "python -m tasks.stand_in fit --seed_everything=2"


def test_one_that_fails_is_recorded_with_its_reason_and_stops_no_other(quick_task: Path):
    trainings = [
        Training("bad", "stand_in", ("--fail=there is no argument --x",), 0),
        Training("killed", "stand_in", ("--kill=1",), 0),
        Training("good", "stand_in", (), 0),
        Training("needs bad", "stand_in", ("--from={run:bad}",), 0, after=("bad",)),
    ]
    finished, _ = run(trainings, quick_task)
    assert {name: each.status for name, each in finished.items()} == {
        "bad": FAILED,
        "killed": FAILED,
        "good": DONE,
        "needs bad": FAILED,
    }
    assert finished["bad"].reason == "there is no argument --x"
    assert finished["killed"].reason is not None
    assert "SIGKILL" in finished["killed"].reason
    assert finished["needs bad"].reason == "bad, which it starts from, failed"


def test_one_that_starts_from_another_waits_for_its_run(quick_task: Path):
    trainings = [
        Training("second", "stand_in", ("--from={run:first}",), 0, after=("first",)),
        Training("first", "stand_in", ("--sleep=0.3",), 0),
    ]
    finished, events = run(trainings, quick_task)
    assert events.index((DONE, "first")) < events.index(("start", "second"))
    assert finished["first"].run is not None
    assert finished["second"].run is not None
    assert (quick_task / finished["second"].run / "from").read_text() == str(quick_task / finished["first"].run)


def test_what_is_finished_is_not_run_again_unless_it_failed_or_is_another_command(quick_task: Path):
    trainings = [Training("good", "stand_in", (), 0), Training("bad", "stand_in", ("--fail=no",), 0)]
    run(trainings, quick_task)
    record = (quick_task / "good" / "finished.json").read_text()

    finished, events = run(trainings, quick_task)
    assert ("start", "good") not in events
    assert ("start", "bad") in events
    assert finished["good"] == Finished(**json.loads(record))

    _, events = run([Training("good", "stand_in", ("--other=1",), 0)], quick_task)
    assert ("start", "good") in events


def test_a_half_done_training_is_begun_anew(quick_task: Path):
    (quick_task / "good" / "stand_in" / "run" / "checkpoints").mkdir(parents=True)
    (quick_task / "good" / "log.txt").write_text("half")
    finished, _ = run([Training("good", "stand_in", (), 0)], quick_task)
    assert finished["good"].status == DONE


def test_one_that_may_goes_on_from_its_last_checkpoint_if_it_is_of_the_same_command(quick_task: Path):
    training = Training("long", "stand_in", (), 0, goes_on=True)
    last = quick_task / "long" / "stand_in" / "earlier" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.touch()
    command = quick_task / "long" / "command.txt"
    command.write_text(training.command + " --other=1\n")
    finished, _ = run([training], quick_task)
    assert finished["long"].run is not None
    assert not (quick_task / finished["long"].run / "from").exists()
    assert not last.exists()

    (quick_task / "long" / "finished.json").unlink()
    last.parent.mkdir(parents=True)
    last.touch()
    assert command.read_text() == training.command + "\n"
    shutil.rmtree(quick_task / "long" / "stand_in" / "run")
    finished, _ = run([training], quick_task)
    assert finished["long"].run is not None
    assert (quick_task / finished["long"].run / "from").read_text() == str(last)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_killed_with_its_children_and_gone_on_with(quick_task: Path, tmp_path: Path, number: signal.Signals):
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import pathlib, tasks.trainings as t
from tasks.progress import Progress
from tasks.tables import make_console
t._module = lambda task: task
trainings = [t.Training("quick", "stand_in", (), 0), t.Training("slow", "stand_in", ("--sleep=60",), 0)]
t.run_trainings(trainings, pathlib.Path({str(quick_task)!r}), progress=Progress(make_console(), {{}}), jobs=2)
"""
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ["PYTHONPATH"]])}
    process = subprocess.Popen([sys.executable, str(script)], env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (quick_task / "quick" / "finished.json").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(timeout=30) != 0
    deadline = time.monotonic() + 10
    while _alive(str(quick_task / "slow")):
        assert time.monotonic() < deadline, "a child outlives the benchmark"
        time.sleep(0.05)
    assert not (quick_task / "slow" / "finished.json").exists()
    trainings = [Training("quick", "stand_in", (), 0), Training("slow", "stand_in", (), 0)]
    finished, events = run(trainings, quick_task)
    assert ("start", "quick") not in events
    assert {each.status for each in finished.values()} == {DONE}


def _alive(argument: str) -> bool:
    """Whether a process has this within its command line."""
    lines = [path for path in Path("/proc").glob("[0-9]*/cmdline") if path.parent.name != str(os.getpid())]
    for line in lines:
        try:
            if argument in line.read_text():
                return True
        except OSError:
            continue
    return False


def test_time_left_is_corrected_by_what_has_ended():
    weights = {"a": 10.0, "b": 20.0, "c": 10.0}
    assert seconds_left(weights, {}, {}, now=0.0, jobs=2) == 20
    assert seconds_left(weights, {"a": 20.0}, {"b": 100.0}, now=115.0, jobs=1) == (40 - 15) + 20
    assert seconds_left(weights, {"a": 1.0, "b": 2.0, "c": 3.0}, {}, now=0.0, jobs=1) == 0
    assert seconds_left(weights, {"a": 10.0, "c": 10.0}, {"b": 0.0}, now=1e6, jobs=1) == 0, "never below nothing"
    assert format_left(119) == "2 minutes left"

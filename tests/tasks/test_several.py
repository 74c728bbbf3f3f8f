"""Several processes learn, measure and save what one does."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tasks.several import ALONE, GIVE, ROOT, SHARDED, curve, figures, run_by_two, run_here

TASKS = list(GIVE)
GOES_ON = ["vit"]


def checkpoint(run: Path, name: str) -> str:
    return f"--ckpt_path={run / 'checkpoints' / name}.ckpt"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run of a task by a number of processes: `fit`; `on`, where the other's goes on; `test`, the other's best."""
    folder = tmp_path_factory.mktemp("several")
    given = {task: give(folder) for task, give in GIVE.items()}

    def find(name: str, processes: int, task: str) -> Path:
        (found,) = (folder / name / str(processes) / task).iterdir()
        return found

    def place(name: str, processes: int) -> str:
        return f"--runs={folder / name / str(processes)}"

    def later(processes: int) -> list[list[str]]:
        """With the other's checkpoints, which know how many processes they were of."""
        commands = []
        for task in GOES_ON:
            of = find("fit", 3 - processes, task)
            on = [*given[task].share(processes), "--trainer.max_epochs=3", *(ALONE if processes == 1 else [])]
            commands += [[task, "fit", checkpoint(of, "last"), *on, place("on", processes)]]
            commands += [[task, "test", checkpoint(of, "best"), place("test", processes)]]
        return commands

    def whole_again() -> list[list[str]]:
        """With the checkpoints of two processes that had a part of each weight."""
        on = [*given["vit"].share(1), "--trainer.max_epochs=3", *ALONE, place("whole on", 1)]
        return [
            *([task, "test", checkpoint(find("parts", 2, task), "best"), place("whole", 1)] for task in TASKS),
            ["vit", "fit", checkpoint(find("parts", 2, "vit"), "last"), *on],
        ]

    run_here([[task, "fit", *given[task].args, *given[task].share(1), place("fit", 1)] for task in TASKS])
    by_two = [[task, "fit", *given[task].args, *given[task].share(2), place("fit", 2)] for task in TASKS]
    divided = [[task, "fit", *given[task].args, *given[task].share(2), *SHARDED, place("parts", 2)] for task in TASKS]
    run_by_two([*by_two, *later(2), *divided])
    run_here([*later(1), *whole_again()])
    return find


@pytest.mark.parametrize("task", TASKS)
def test_two_processes_learn_and_measure_what_one_does(run, task):
    one, two = run("fit", 1, task), run("fit", 2, task)
    assert len(curve(one)) >= 2
    assert curve(two) == pytest.approx(curve(one), abs=1e-5, rel=1e-5)
    assert figures(two) == pytest.approx(figures(one), abs=1e-5, rel=1e-5)
    assert {file.name for file in two.iterdir()} == {file.name for file in one.iterdir()}


@pytest.mark.parametrize("task", GOES_ON)
def test_each_goes_on_with_and_tests_what_the_other_has_saved(run, task):
    assert max(curve(run("on", 1, task))) > max(curve(run("fit", 1, task)))
    assert curve(run("on", 2, task)) == pytest.approx(curve(run("on", 1, task)), abs=1e-5, rel=1e-5)
    for processes in (1, 2):
        tested, fitted = figures(run("test", processes, task)), figures(run("fit", 3 - processes, task))
        assert tested == pytest.approx({name: fitted[name] for name in tested}, abs=1e-5, rel=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_two_processes_with_a_part_of_each_weight_learn_what_one_does(run, task):
    """Averaging is left out, which changes no loss of the training; the clipped gradient is that of all parts."""
    parts = run("parts", 2, task)
    assert curve(parts) == pytest.approx(curve(run("fit", 1, task)), abs=1e-5, rel=1e-5)
    tested, fitted = figures(run("whole", 1, task)), figures(parts)
    assert tested == pytest.approx({name: fitted[name] for name in tested}, abs=1e-5, rel=1e-5)


def test_one_goes_on_with_what_two_have_saved_in_parts(run):
    assert curve(run("whole on", 1, "vit")) == pytest.approx(curve(run("on", 1, "vit")), abs=1e-5, rel=1e-5)


def start(task: str, args: list[str], strategy: str = "ddp") -> subprocess.Popen[str]:
    """A command as it is typed, of two processes that it starts itself."""
    line = [sys.executable, "-m", f"tasks.{task}", *args, "--trainer.devices=2", f"--trainer.strategy={strategy}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        line, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )


def is_there(group: int) -> bool:
    return subprocess.run(["pgrep", "-g", str(group)], stdout=subprocess.DEVNULL).returncode == 0


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """The exit code and what was said; no process of the command is left."""
    try:
        said = process.communicate(timeout=200)
        end = time.monotonic() + 20
        while is_there(process.pid) and time.monotonic() < end:
            time.sleep(0.2)
        assert not is_there(process.pid)
    finally:
        if is_there(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, *said


def errors(said: str) -> list[str]:
    assert "Traceback" not in said
    return [line for line in said.splitlines() if line.startswith("error: ")]


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_command_starts_its_processes_itself(run, task, tmp_path):
    config = run("fit", 2, task) / "config.yaml"
    code, out, said = finish(start(task, ["fit", f"--config={config}", f"--runs={tmp_path / 'runs'}"]))
    assert code == 0, said
    (folder,) = (tmp_path / "runs" / task).iterdir()
    assert out.splitlines()[-1] == f"run: {folder}"
    assert curve(folder) == pytest.approx(curve(run("fit", 1, task)), abs=1e-5, rel=1e-5)
    assert figures(folder) == pytest.approx(figures(run("fit", 1, task)), abs=1e-5, rel=1e-5)


@pytest.mark.slow
def test_two_go_on_with_what_two_have_saved_in_parts(run, tmp_path):
    on = [checkpoint(run("parts", 2, "vit"), "last"), "--trainer.max_epochs=3", f"--runs={tmp_path}"]
    code, _, said = finish(start("vit", ["fit", *on], "fsdp"))
    assert code == 0, said
    (folder,) = (tmp_path / "vit").iterdir()
    assert curve(folder) == pytest.approx(curve(run("on", 1, "vit")), abs=1e-5, rel=1e-5)


@pytest.mark.slow
def test_ctrl_c_at_one_of_them_stops_both_and_one_goes_on(run, tmp_path):
    config = run("fit", 2, "vit") / "config.yaml"
    process = start("vit", ["fit", f"--config={config}", f"--runs={tmp_path}", "--trainer.max_epochs=500"])
    end = time.monotonic() + 120
    while not list(tmp_path.glob("vit/*/checkpoints/last.ckpt")) and time.monotonic() < end:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    code, _, said = finish(process)
    (error,) = errors(said)
    assert code == 1
    assert "go on with: python -m tasks.vit fit --ckpt_path" in error
    (stopped,) = (tmp_path / "vit").iterdir()
    alone = ["--data.batch_size=8", "--trainer.devices=1", "--trainer.strategy=auto"]
    most = f"--trainer.max_epochs={max(curve(stopped)) // 4 + 2}"
    run_here([["vit", "fit", checkpoint(stopped, "last"), *alone, most, f"--runs={tmp_path / 'on'}"]])


@pytest.mark.slow
def test_what_one_of_them_finds_wrong_is_said_once(run, tmp_path):
    """The second picture of validation, which the second process reads."""
    given = GIVE["vit"](tmp_path)
    sorted((tmp_path / "pictures/val/class0").iterdir())[1].write_bytes(b"broken")
    process = start("vit", ["fit", *given.args, *given.share(2), f"--runs={tmp_path / 'runs'}"])
    code, _, said = finish(process)
    (error,) = errors(said)
    assert code == 1
    assert "pictures/val/class0" in error

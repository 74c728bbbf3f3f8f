"""Several processes learn, measure and save what one does."""

from pathlib import Path

import pytest

from tests.tasks.several import GIVE, curve, figures, run_by_two, run_here

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
            of, alone = find("fit", 3 - processes, task), ["--trainer.devices=1", "--trainer.strategy=auto"]
            on = [*given[task].share(processes), "--trainer.max_epochs=3", *(alone if processes == 1 else [])]
            commands += [[task, "fit", checkpoint(of, "last"), *on, place("on", processes)]]
            commands += [[task, "test", checkpoint(of, "best"), place("test", processes)]]
        return commands

    run_here([[task, "fit", *given[task].args, *given[task].share(1), place("fit", 1)] for task in TASKS])
    run_by_two([[task, "fit", *given[task].args, *given[task].share(2), place("fit", 2)] for task in TASKS] + later(2))
    run_here(later(1))
    return find


@pytest.mark.parametrize("task", TASKS)
def test_two_processes_learn_and_measure_what_one_does(run, task):
    one, two = run("fit", 1, task), run("fit", 2, task)
    print(task, len(curve(one)), max(abs(curve(one)[step] - curve(two)[step]) for step in curve(one)))
    print(task, max(abs(figures(one)[n] - figures(two)[n]) for n in figures(one)))
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

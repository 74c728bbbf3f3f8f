"""The real command on small trainings: found by validation alone, stopped and gone on with, fitted from its result."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import yaml

from tasks.trainings import _Children
from tasks.vit.__main__ import main as vit
from tests.tasks.conftest import SMALL
from tests.tasks.trainings import Run, training_here

SPACE = ["--space=training.optimizer.lr=log:1e-4..1e-2", "--space=model.encoder.num_heads=2,5"]
ARGS = ["sweep", "--trials=3", *SPACE, *SMALL, "--trainer.max_epochs=1"]
"""The width of 24 has no 5 heads, so those trials fail."""


def sweep(folder: Path, run: Run, *args: str) -> tuple[int, Path]:
    """Runs the command; its exit code and its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Children, "run", run)
        code = vit([*(args or ARGS), *([] if "--resume" in args else [f"--runs={folder}"])])
    (made,) = (folder / "sweep").iterdir()
    return code, made


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> tuple[Path, list[str]]:
    """The folder of a sweep, and the trials that were trained."""
    ran: list[str] = []
    code, folder = sweep(tmp_path_factory.mktemp("runs"), training_here(ran))
    assert code == 0
    return folder, ran


def test_every_trial_is_on_record_and_one_that_fails_stops_no_other(swept: tuple[Path, list[str]]):
    folder, ran = swept
    assert ran == [f"trial-{number}" for number in range(1, 4)]
    trials = rows(folder)
    assert list(trials[0]) == [
        "trial",
        "training.optimizer.lr",
        "model.encoder.num_heads",
        "val/accuracy",
        "status",
        "reason",
        "seconds",
        "run",
    ]
    for trial in trials:
        failed = trial["model.encoder.num_heads"] == "5"
        assert trial["status"] == ("failed" if failed else "done")
        assert ("num_heads=5" in trial["reason"]) == failed
        assert bool(trial["val/accuracy"]) != failed
        assert 1e-4 <= float(trial["training.optimizer.lr"]) <= 1e-2
    assert {trial["status"] for trial in trials} == {"done", "failed"}


def test_no_trial_looks_at_the_test_part(swept: tuple[Path, list[str]]):
    folder, _ = swept
    done = [trial for trial in rows(folder) if trial["status"] == "done"]
    for trial in done:
        metrics = json.loads((folder / trial["run"] / "metrics.json").read_text())
        assert metrics
        assert not [name for name in metrics if not name.startswith("val/")]
        assert not list((folder / trial["run"]).glob("*.png"))


def test_the_best_is_an_experiment_that_reaches_the_same(swept: tuple[Path, list[str]], tmp_path: Path):
    folder, _ = swept
    best = max(
        (trial for trial in rows(folder) if trial["val/accuracy"]), key=lambda trial: float(trial["val/accuracy"])
    )
    config = yaml.safe_load((folder / "best.yaml").read_text())
    assert config["training"]["optimizer"]["init_args"]["lr"] == float(best["training.optimizer.lr"])
    assert config["model"]["encoder"]["init_args"]["num_heads"] == int(best["model.encoder.num_heads"])
    head = (folder / "best.yaml").read_text().splitlines()[0]
    assert head == f"# trial {best['trial']} of 3 by val/accuracy = {best['val/accuracy']}"
    assert vit(["fit", f"--config={folder / 'best.yaml'}", f"--runs={tmp_path}"]) == 0
    (run,) = (tmp_path / "vit").iterdir()
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["val/accuracy"] == float(best["val/accuracy"])
    assert "test/accuracy" in metrics, "only the sweep leaves the test out"


def test_stopped_it_keeps_what_is_finished_and_says_how_to_go_on(tmp_path: Path, capsys):
    whole = training_here([])

    def stopped(self: _Children, command: list[str], log: Path, environment: dict[str, str]) -> tuple[int, float]:
        if log.parent.name == "trial-2":
            self.ended = True  # so that nothing is written of the trial, as after a kill
            raise KeyboardInterrupt
        return whole(self, command, log, environment)

    code, folder = sweep(tmp_path, stopped)
    assert code == 1
    assert f"go on with: python -m tasks.vit sweep --resume {folder}" in capsys.readouterr().err
    assert [trial["trial"] for trial in rows(folder)] == ["1", "2", "3"]
    assert not (folder / "best.yaml").exists()


def test_gone_on_with_it_ends_as_if_never_stopped(swept: tuple[Path, list[str]], tmp_path: Path, capsys):
    shutil.copytree(swept[0], tmp_path / "sweep" / "moved", symlinks=True)
    folder = tmp_path / "sweep" / "moved"
    shutil.rmtree(folder / "trial-3")
    for name in ("best.yaml", "trials.csv"):
        (folder / name).unlink()
    ran: list[str] = []
    code, _ = sweep(tmp_path, training_here(ran), "sweep", "--resume", str(folder))
    assert code == 0
    assert ran == ["trial-1", "trial-3"], "what failed is tried again, what is done is not"
    for here, there in zip(rows(folder), rows(swept[0]), strict=True):
        for name in ("training.optimizer.lr", "model.encoder.num_heads", "val/accuracy", "status"):
            assert here[name] == there[name]
    assert capsys.readouterr().out.splitlines()[-1] == f"best: {folder / 'best.yaml'}"


def test_trials_that_all_fail_are_an_error(tmp_path: Path, capsys):
    args = ["sweep", "--trials=2", "--space=model.encoder.num_heads=5,7", *SMALL]
    code, folder = sweep(tmp_path, training_here([]), *args)
    assert code == 1
    assert "none of 2 trials ended well" in capsys.readouterr().err
    assert not (folder / "best.yaml").exists()
    assert len(rows(folder)) == 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--trials=0", *SPACE], "argument --trials: '0' is not a whole number above 0"),
        (["--trials=2"], "a sweep needs --space"),
        (SPACE, "a sweep needs --trials"),
        (["--trials=2", "--jobs=no", *SPACE], "argument --jobs: 'no' is not a whole number above 0"),
        (["--trials=2", "--job=2", *SPACE], "there is no argument --job; did you mean --jobs?"),
        (["--trials=2", "--sampler=grid", *SPACE], "argument --sampler: invalid choice: 'grid'"),
        (["--trials=2", "--space=training.optimizer.rl=1,2"], "did you mean --training.optimizer.lr?"),
        (["--trials=2", "--space=model.encoder.num_layers=2,many"], "--space model.encoder.num_layers=many: "),
        (["--trials=2", "--space=x=3..1"], "--space x=3..1: 3 is not less than 1"),
        (["--trials=9", "--space=model.encoder.num_layers=1..3"], "the space has no more than 3 combinations"),
        (["--trials=2", "--training.monitor=train/loss", *SPACE], "compared by a metric of validation"),
        (["--trials=2", "--seed_everything=false", *SPACE], "a sweep needs a number"),
        (["--trials=2", "--ckpt_path=x", *SPACE], "--ckpt_path is no argument of a sweep"),
        (["--trials=2", "--data.batch_sizes=2", *SPACE], "did you mean --data.batch_size?"),
        (["--resume=nowhere"], "--resume nowhere: it holds no run of this command"),
        (["--resume=nowhere", "--trials=2"], "leave --trials=2 out"),
    ],
)
def test_what_cannot_be_understood_gets_one_line_before_anything_is_trained(
    command, tmp_path: Path, monkeypatch, args: list[str], message: str
):
    monkeypatch.delattr(_Children, "run")
    result = command("sweep", *args, *([] if args[0].startswith("--resume") else [f"--runs={tmp_path}"]))
    assert result.code == 2
    assert message in result.one_line
    assert not list(tmp_path.iterdir())


def test_without_optuna_its_sampler_says_what_to_install(command, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    result = command("sweep", "--trials=2", "--sampler=tpe", *SPACE, f"--runs={tmp_path}")
    assert result.code == 2
    assert "pip install -e '.[sweep]'" in result.one_line
    assert not list(tmp_path.iterdir())


def test_a_sweep_belongs_to_its_task(swept: tuple[Path, list[str]], capsys):
    from tasks.forecast.__main__ import main as forecast

    assert forecast(["sweep", "--resume", str(swept[0])]) == 2
    assert "is a sweep of python -m tasks.vit" in capsys.readouterr().err

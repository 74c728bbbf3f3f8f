"""Transfer between tasks as a benchmark: real trainings through the command line."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tasks.benchmark.__main__ import main
from tasks.benchmark.transfer.plan import RANDOM
from tasks.machine import computer
from tasks.trainings import DONE, FAILED, _Children
from tests.tasks.trainings import training_here

SMALLER = [
    "--model.encoder.embed_dim=16",
    "--model.encoder.ffn_dim=16",
    "--model.encoder.num_layers=1",
    "--trainer.limit_train_batches=2",
    "--trainer.limit_test_batches=1",
]


@pytest.fixture
def here(monkeypatch) -> list[str]:
    """Trainings run in this process, which has torch already: the same command lines, a little smaller.

    Gives the names of those that have run.
    """
    ran: list[str] = []
    monkeypatch.setattr(_Children, "run", training_here(ran, *SMALLER))
    return ran


@pytest.fixture
def stand_in(monkeypatch) -> list[str]:
    """Trainings that leave what a run leaves and take no time; one whose arguments cannot be says so, as tasks do."""
    ran: list[str] = []

    def run(self: _Children, command: list[str], log: Path, environment: dict[str, str]) -> tuple[int, float]:
        ran.append(log.parent.name)
        if log.parent.name == "source.vit.0" and "--model.patch_size=0" in command:
            log.write_text("error: patch_size=0 must be at least 1\n")
            return 1, 0.0
        folder = log.parent / "run"
        (folder / "checkpoints").mkdir(parents=True)
        metrics = {"test/accuracy": 0.5, "test/mae": 0.5, "test/naive_mae": 0.6}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        log.write_text(f"run: {folder}\n")
        return 0, 0.0

    monkeypatch.setattr(_Children, "run", run)
    return ran


@pytest.fixture
def transfer(tmp_path, capsys) -> Callable[..., tuple[int, str, str]]:
    def run(*args: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["transfer", *map(str, args)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


QUICK = ("--quick", "--tasks", "vit,forecast", "--jobs", "1")


def test_two_tasks_through_the_command_line(here, transfer, tmp_path):
    code, out, err = transfer(*QUICK, "--output", tmp_path)
    assert code == 0, err
    folder = Path(out.strip().splitlines()[-1].removeprefix("run: "))
    assert folder.parent == tmp_path / "transfer"
    report = json.loads((folder / "results.json").read_text())
    assert (report["schema"], report["version"]) == ("onecore.transfer", 2)
    assert [entry["source"]["status"] for entry in report["entries"]] == [DONE, DONE]
    cells = {(cell["entry"], cell["start"], cell["mode"]): cell for cell in report["cells"]}
    assert len(cells) == 2 * 3 * 2
    assert {cell["status"] for cell in cells.values()} == {DONE}
    assert {bool(cell["shuffled"]) for cell in cells.values() if cell["start"] in (RANDOM, cell["entry"])} == {False}
    assert cells["vit", "forecast", "frozen"]["shuffled"]["status"] == DONE
    assert len(here) == len(set(here)) == 2 + 12 + 4

    def encoder(name: str) -> dict[str, torch.Tensor]:
        (file,) = (folder / "trainings" / name).glob("*/*/checkpoints/best.ckpt")
        weights = torch.load(file, weights_only=True)["state_dict"]
        return {name: tensor for name, tensor in weights.items() if name.startswith("network.encoder.")}

    taken, learnt, trained = (
        encoder(name) for name in ("vit.forecast.frozen.0", "source.forecast.0", "vit.forecast.trained.0")
    )
    assert all(torch.equal(taken[name], learnt[name]) for name in learnt)
    assert not all(torch.equal(trained[name], learnt[name]) for name in learnt)
    shuffled = encoder("vit.forecast-shuffled.frozen.0")
    assert not any(torch.equal(shuffled[name], learnt[name]) for name in learnt if learnt[name].dim() == 2)
    assert all(torch.equal(*(each[name].flatten().sort().values for each in (shuffled, learnt))) for name in learnt)
    rows = list(csv.DictReader(io.StringIO((folder / "results.csv").read_text())))
    assert len(rows) == len(cells)
    for row in rows:
        quality = cells[row["entry"], row["start"], row["mode"]]["quality"]
        assert float(row["quality_mean"]) == quality["mean"]
    text = (folder / "results.md").read_text()
    assert "| to | baseline | random start | from vit | from forecast |" in text
    assert "one seed: differences say nothing" in text
    assert report["trained_on"] == [f"{computer()} (18 trainings)"]
    assert f"trained on {computer()}" in text
    (told,) = cells["vit", "forecast", "frozen"]["runs"]
    (start,) = (arg for arg in told["command"].split() if arg.startswith("--model.encoder_from="))
    assert (folder / start.partition("=")[2] / "checkpoints" / "best.ckpt").is_file(), "it can be typed there"


def test_killed_and_gone_on_with(stand_in, transfer, tmp_path, monkeypatch):
    """What is finished is not trained again, and the rest starts from it."""
    original = _Children.run

    def stop(self, *args):
        if len(stand_in) == 4:
            raise KeyboardInterrupt
        return original(self, *args)

    monkeypatch.setattr(_Children, "run", stop)
    code, _, err = transfer("--quick", "--tasks", "forecast", "--jobs", "1", "--output", tmp_path)
    assert code == 1
    (folder,) = (tmp_path / "transfer").iterdir()
    assert f"go on with: python -m tasks.benchmark transfer --resume {folder}" in err
    done = list(stand_in)
    monkeypatch.setattr(_Children, "run", original)
    code, out, err = transfer("--resume", folder)
    assert code == 0, err
    assert out.strip().endswith(f"run: {folder}")
    assert sorted(stand_in) == sorted(set(stand_in)) == sorted(path.name for path in (folder / "trainings").iterdir())
    assert len(done) == 4
    assert all(cell["status"] == DONE for cell in json.loads((folder / "results.json").read_text())["cells"])


def test_failed_source_is_recorded_and_the_rest_goes_on(stand_in, transfer, tmp_path, monkeypatch):
    original = _Children.run

    def run(self: _Children, command: list[str], log: Path, environment: dict[str, str]) -> tuple[int, float]:
        if log.parent.name == "source.vit.0":
            command = [*command, "--model.patch_size=0"]
        return original(self, command, log, environment)

    monkeypatch.setattr(_Children, "run", run)
    code, out, err = transfer(*QUICK, "--output", tmp_path)
    assert code == 0, err
    folder = Path(out.strip().splitlines()[-1].removeprefix("run: "))
    report = json.loads((folder / "results.json").read_text())
    source = report["entries"][0]["source"]
    assert source["status"] == FAILED
    assert source["reason"] == "seed 0: patch_size=0 must be at least 1"
    for cell in report["cells"]:
        assert cell["status"] == (FAILED if cell["start"] == "vit" else DONE)
        if cell["start"] == "vit":
            assert cell["reason"] == "seed 0: source.vit.0, which it starts from, failed"
            assert cell["quality"] is cell["gain"] is None
    assert "vit as a source: seed 0: patch_size=0 must be at least 1" in report["notes"]
    assert "forecast, trained: from vit: seed 0: source.vit.0, which it starts from, failed" in report["notes"]
    assert (
        "forecast, trained: from vit, shuffled: seed 0: source.vit.0, which it starts from, failed" in report["notes"]
    )
    assert "| failed |" in (folder / "results.md").read_text()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--tasks", "vit,fercast"], "'fercast' is no task; did you mean forecast?"),
        (["--resume", "nowhere"], "--resume nowhere: it holds no run"),
        (["--resume", "nowhere", "--seeds", "2"], "leave --seeds out"),
    ],
)
def test_mistakes(transfer, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = transfer(*args)
    assert code == 2
    assert message in err
    assert not list(tmp_path.iterdir())

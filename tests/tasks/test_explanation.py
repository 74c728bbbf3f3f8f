"""`explain` is `predict`, and what it looked at beside it: for every task, through the real command line."""

import filecmp
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tasks.catalogue import TASKS
from tasks.explanation import Explanation, ExplanationWriter
from tasks.launch import launch
from tests.datamodules.speech.sets import noise, write
from tests.tasks.conftest import QUIET, best


@pytest.fixture(scope="module")
def files(tmp_path_factory, scenes, sentences) -> dict[str, Path]:
    """Of each task a folder with some of its files, one of which cannot be read."""
    folder = tmp_path_factory.mktemp("files")
    for task, suffix in {"vit": ".png", "detr": ".png", "asr": ".flac", "forecast": ".csv"}.items():
        (folder / task).mkdir()
        (folder / task / f"bad{suffix}").write_bytes(b"nothing of the kind")
    generator = np.random.default_rng(0)
    for number, size in enumerate([(28, 28), (40, 90), (300, 200)]):
        Image.fromarray(generator.integers(0, 255, size, dtype=np.uint8)).save(folder / f"vit/{number}.png")
    for number, path in enumerate(sorted((scenes / "digit_scenes/test").glob("*.png"))[:2]):
        Image.open(path).resize((128 - 24 * number, 128)).save(folder / f"detr/{number}.png")
    for path in sorted((sentences / "spoken_sentences/test").glob("*.flac"))[:2]:
        (folder / "asr" / path.name).write_bytes(path.read_bytes())
    write(folder / "asr/silence.wav", 0 * noise(0.5))
    times = pd.date_range("2000-06-05", periods=700, freq="30min")
    for number in range(2):
        demand = 30_000 + 5000 * np.sin(np.arange(700) / 24 * np.pi + number)
        pd.DataFrame({"time": times, "demand": demand}).to_csv(folder / f"forecast/{number}.csv", index=False)
    return {task: folder / task for task in TASKS}


@pytest.fixture(scope="module")
def checkpoints(trained, detr_trained, asr_trained, forecast_trained) -> dict[str, str]:
    runs = {"vit": trained, "detr": detr_trained, "asr": asr_trained, "forecast": forecast_trained}
    return {task: best(run) for task, run in runs.items()}


def below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("task", TASKS)
def test_it_predicts_byte_for_byte_what_predict_does(task, checkpoints, files, tmp_path, capsys, monkeypatch):
    """And a bad file is named by both alike, in one line, while the others go on."""
    monkeypatch.setenv("ONECORE_DATA", str(tmp_path / "nowhere"))
    own = ["--training.min_score=0"] if task == "detr" else []
    said = []
    for command in ("predict", "explain"):
        args = [checkpoints[task], f"--input={files[task]}", f"--output={tmp_path / command}", *QUIET, *own]
        assert launch(task, [command, *args]) == 1
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        said.append(line.replace(f"{tmp_path / command}", "OUT"))
    assert said[0] == said[1]
    assert "1 of" in said[0]
    assert "bad" in said[0]
    predicted, explained = (below(tmp_path / command) for command in ("predict", "explain"))
    attention = {name for name in explained if name.startswith("attention/")}
    assert explained - attention == predicted
    assert not filecmp.cmpfiles(tmp_path / "predict", tmp_path / "explain", predicted, shallow=False)[1]
    read = len(list(files[task].iterdir())) - 1
    for suffix in (".npz", ".png"):
        assert len([name for name in attention if name.endswith(suffix)]) == read, attention
    for name in attention:
        if name.endswith(".npz"):
            with np.load(tmp_path / "explain" / name) as saved:
                assert {"last_layer", "rollout"} <= {*saved} or "silence" in name
        else:
            assert Image.open(tmp_path / "explain" / name).size[0] > 300


def test_no_more_is_drawn_than_asked_for_and_it_is_said(checkpoints, files, tmp_path, capsys):
    args = [checkpoints["vit"], f"--input={files['vit']}", f"--output={tmp_path}", *QUIET, "--most=2"]
    assert launch("vit", ["explain", *args]) == 1  # the bad file
    assert len(list((tmp_path / "attention").glob("*.png"))) == 2
    assert "explained the first 2 of 3: --most=2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message", "code"),
    [
        (["--most=0"], "most=0 must be at least 1", 1),
        (["--most=x"], "most=x is not of the type int", 2),
        (["--explain=true"], "there is no argument --explain", 2),
        (["--input=missing"], "missing: no such file", 1),
    ],
)
def test_a_mistake_is_one_line(args, message, code, checkpoints, files, tmp_path, capsys):
    given = [checkpoints["vit"], f"--input={files['vit']}", f"--output={tmp_path / 'out'}", *QUIET, *args]
    assert launch("vit", ["explain", *given]) == code
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert message in line
    assert not (tmp_path / "out").exists()


def test_explanations_of_one_name_are_not_written_over_each_other(tmp_path):
    writer = ExplanationWriter({}, ["in/a.csv", "in/a_x.csv"], tmp_path, most=50)
    for index, part in [(0, "_x"), (0, "_X"), (1, "")]:
        weights: dict[str, Any] = {"rollout": torch.full((1,), float(index))}
        writer._write(Explanation(index, part, weights, iter([("_1", b"a"), ("_2", b"b")])))
    parts = ["a_x", "a_X-2", "a_x-3"]
    assert below(tmp_path) == {f"{name}{end}" for name in parts for end in (".npz", "_1.png", "_2.png")}
    assert np.load(tmp_path / "a_x-3.npz")["rollout"] == 1

"""`predict`: what it writes, what it keeps, and what it says of files that cannot be read."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tasks.conftest import QUIET, best


def test_predict_writes_csv_and_json(command, trained, pictures, tmp_path):
    outcome = command("predict", best(trained), *QUIET, "--input", pictures, "--output", tmp_path / "out")
    assert outcome.code == 0
    with (tmp_path / "out/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["file"]).name for row in rows] == [f"{digit}.png" for digit in range(10)]
    records = json.loads((tmp_path / "out/predictions.json").read_text())
    for row, record in zip(rows, records, strict=True):
        top5 = json.loads(row["top5"])
        assert len(top5) == 5
        assert [row["label"], float(row["probability"])] == top5[0]
        assert record["top5"][0] == {"label": row["label"], "probability": float(row["probability"])}
        assert sorted((share for _, share in top5), reverse=True) == [share for _, share in top5]


def test_predict_agrees_with_the_network(command, trained, pictures, tmp_path):
    from tasks.checkpoint import load
    from tasks.vit.module import ViTModule

    command("predict", best(trained), *QUIET, "--input", pictures / "3.png", "--output", tmp_path)
    module = load(trained / "checkpoints/best.ckpt", ViTModule)
    pixels = torch.tensor(np.array(Image.open(pictures / "3.png")), dtype=torch.float32)[None, None] / 255
    image = (pixels - module.facts["mean"][0]) / module.facts["std"][0]
    with torch.no_grad():
        share, label = module.network(image).softmax(-1)[0].max(0)
    (record,) = json.loads((tmp_path / "predictions.json").read_text())
    assert record["label"] == str(label.item())
    assert record["probability"] == pytest.approx(share.item(), abs=1e-5)


def test_predict_twice_keeps_the_earlier_result(command, trained, pictures, tmp_path):
    for _ in range(3):
        assert command("predict", best(trained), *QUIET, "--input", pictures, "--output", tmp_path).code == 0
    assert len(list(tmp_path.glob("predictions*.csv"))) == 3


def test_predict_at_another_size_than_trained(command, trained, pictures, tmp_path):
    args = ["predict", best(trained), *QUIET, "--input", pictures, "--output"]
    assert command(*args, tmp_path / "a", "--data.image_size=[28,28]").code == 0
    assert command(*args, tmp_path / "b").code == 0
    assert command(*args, tmp_path / "c", "--data.image_size=[40,56]").code == 0
    same, trained_size, larger = ((tmp_path / name / "predictions.json").read_text() for name in "abc")
    assert same == trained_size
    assert larger != trained_size


def test_predict_names_bad_files_and_goes_on(command, trained, pictures, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    whole = (pictures / "3.png").read_bytes()
    (folder / "good.png").write_bytes(whole)
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("no picture")
    Image.new("L", (1, 1)).save(folder / "dot.png")
    outcome = command("predict", best(trained), *QUIET, "--input", folder, "--output", tmp_path / "out")
    assert outcome.code == 1
    assert "3 of 5 files could not be read" in outcome.one_line
    assert all(name in outcome.one_line for name in ("truncated.png", "empty.png", "text.jpg"))
    records = json.loads((tmp_path / "out/predictions.json").read_text())
    assert {Path(record["file"]).name for record in records} == {"good.png", "dot.png"}


def test_predict_with_no_readable_file(command, trained, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    outcome = command("predict", best(trained), *QUIET, "--input", tmp_path / "a.png", "--output", tmp_path / "out")
    assert outcome.code == 1
    assert "1 of 1 files" in outcome.one_line


def test_predict_works_in_one_process(command, trained, pictures, tmp_path):
    args = ["predict", best(trained), *QUIET, "--input", pictures, "--output", tmp_path / "out"]
    outcome = command(*args, "--trainer.devices=2")
    assert outcome.code == 2
    assert "predict works in one process, not in 2: --trainer.devices=1" in outcome.one_line
    assert not (tmp_path / "out").exists()

"""DETR through the real command line."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tasks.detr.__main__ import main as detr


def command(args: list[str], capsys) -> tuple[int, str, str]:
    code = detr(args)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_fit_measures_validation_and_test(detr_trained):
    metrics = json.loads((detr_trained / "metrics.json").read_text())
    for name in ("val/loss", "test/loss", "val/ap", "test/ap", "test/ap50", "test/ap75"):
        assert name in metrics
    assert all(value >= 0 for value in metrics.values())


@pytest.mark.parametrize("name", ["validate", "test"])
def test_a_checkpoint_is_all_that_is_needed(detr_trained, scenes, name, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ONECORE_DATA", str(scenes))
    checkpoint = detr_trained / "checkpoints/best.ckpt"
    code, out, err = command([name, f"--ckpt_path={checkpoint}", f"--runs={tmp_path}"], capsys)
    assert code == 0, err
    metrics = json.loads((Path(out.strip().splitlines()[-1].removeprefix("run: ")) / "metrics.json").read_text())
    assert {"val" if name == "validate" else "test"} == {metric.split("/")[0] for metric in metrics}
    assert re.search(r"^ap_large +n/a$", err, re.MULTILINE)  # no digit is that large
    assert not [metric for metric in metrics if "large" in metric]


def test_explain_writes_boxes_drawings_and_where_it_looked(detr_trained, scenes, tmp_path, capsys, monkeypatch):
    """Without any data set: from the checkpoint alone."""
    monkeypatch.setenv("ONECORE_DATA", str(tmp_path / "nowhere"))
    pictures = sorted((scenes / "digit_scenes/test").glob("*.png"))[:2]
    folder = tmp_path / "in"
    folder.mkdir()
    for picture in pictures:
        (folder / picture.name).write_bytes(picture.read_bytes())
    output = tmp_path / "out"
    checkpoint = detr_trained / "checkpoints/best.ckpt"
    arguments = [f"--ckpt_path={checkpoint}", f"--input={folder}", f"--output={output}", "--training.min_score=0"]
    code, out, err = command(["explain", *arguments], capsys)
    assert code == 0, err
    assert out.strip().splitlines()[-1] == f"explain: {output / 'attention'}"
    records = json.loads((output / "predictions.json").read_text())
    assert {record["file_name"] for record in records} == {str(folder / picture.name) for picture in pictures}
    assert {record["category_name"] for record in records} <= {str(digit) for digit in range(10)}
    for picture in pictures:
        assert (output / "drawings" / picture.name).is_file()
        assert (output / "attention" / picture.name).is_file()
        with np.load(output / "attention" / f"{picture.stem}.npz") as arrays:
            for name in ("cross_attention", "last_layer", "rollout"):
                assert arrays[name].shape[1:] == (16, 16)  # of 128 pixels, after three stages
                np.testing.assert_allclose(arrays[name].sum((1, 2)), 1.0, rtol=1e-4)


def test_check_data_reports(scenes, capsys, monkeypatch):
    monkeypatch.setenv("ONECORE_DATA", str(scenes))
    code, out, err = command(["check-data"], capsys)
    assert code == 0, err
    assert "train: 16 images" in out
    assert "no defects" in out


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["check-data", "--data=Nothing"], 2, "Nothing"),
        (["check-data", "--data.nothing=1"], 2, "nothing"),
        (["chek-data"], 2, "check-data"),
        (["check-data", "--config=nowhere.yaml"], 2, "--config=nowhere.yaml"),
        (["check-data", "--config"], 2, "expected one argument"),
        (["fit", "--model.queries.init_args.num_queries=0"], 1, "num_queries=0"),
        (["fit", "--training.min_score=2"], 1, "min_score=2"),
    ],
)
def test_a_mistake_gets_one_line(args, code, message, scenes, capsys, monkeypatch):
    monkeypatch.setenv("ONECORE_DATA", str(scenes))
    got, _, err = command(args, capsys)
    assert got == code
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in err

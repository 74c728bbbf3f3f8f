"""DETR through the real command line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from datamodules import DigitScenes
from tasks.detr.__main__ import main as detr

SMALL = [
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=3",
    "--trainer.limit_val_batches=2",
    "--trainer.limit_test_batches=2",
    "--trainer.log_every_n_steps=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.logger=false",
    "--model.backbone.init_args.widths=[4,8,8]",
    "--model.backbone.init_args.depths=[0,0,0]",
    "--data.batch_size=4",
]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Iterator[Path]:
    """The embedded data, a few of them: a COCO data set."""
    from datamodules.detection import scenes as made

    root = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "NUM_SCENES", {"train": 16, "val": 8, "test": 8})
        DigitScenes(root=str(root)).setup("fit")
        yield root


def command(args: list[str], capsys) -> tuple[int, str, str]:
    code = detr(args)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def trained(scenes, tmp_path_factory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONECORE_DATA", str(scenes))
        assert detr(["fit", *SMALL, f"--runs={runs}"]) == 0
    (run,) = (runs / "detr").iterdir()
    return run


def test_fit_measures_validation_and_test(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    for name in ("val/loss", "test/loss", "val/ap", "test/ap", "test/ap50", "test/ap75"):
        assert name in metrics
    assert all(value >= 0 for value in metrics.values())


@pytest.mark.parametrize("name", ["validate", "test"])
def test_a_checkpoint_is_all_that_is_needed(trained, scenes, name, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ONECORE_DATA", str(scenes))
    checkpoint = trained / "checkpoints/best.ckpt"
    code, out, err = command([name, f"--ckpt_path={checkpoint}", f"--runs={tmp_path}"], capsys)
    assert code == 0, err
    metrics = json.loads((Path(out.strip().splitlines()[-1].removeprefix("run: ")) / "metrics.json").read_text())
    assert {"val" if name == "validate" else "test"} == {metric.split("/")[0] for metric in metrics}


def test_predict_writes_boxes_drawings_and_where_it_looked(trained, scenes, tmp_path, capsys, monkeypatch):
    """Without any data set: from the checkpoint alone."""
    monkeypatch.setenv("ONECORE_DATA", str(tmp_path / "nowhere"))
    pictures = sorted((scenes / "digit_scenes/test").glob("*.png"))[:2]
    folder = tmp_path / "in"
    folder.mkdir()
    for picture in pictures:
        (folder / picture.name).write_bytes(picture.read_bytes())
    output = tmp_path / "out"
    checkpoint = trained / "checkpoints/best.ckpt"
    arguments = [f"--ckpt_path={checkpoint}", f"--input={folder}", f"--output={output}", "--training.min_score=0"]
    code, out, err = command(["predict", *arguments, "--explain=true"], capsys)
    assert code == 0, err
    assert out.strip().splitlines()[-1] == f"predictions: {output / 'predictions.json'}"
    records = json.loads((output / "predictions.json").read_text())
    assert {record["file_name"] for record in records} == {str(folder / picture.name) for picture in pictures}
    assert {record["category_name"] for record in records} <= {str(digit) for digit in range(10)}
    for picture in pictures:
        assert (output / "drawings" / picture.name).is_file()
        assert (output / "attention" / f"{picture.stem}_01.png").is_file()


def test_explained_boxes_are_the_same_and_their_weights_sum_to_one(trained, scenes, tmp_path, capsys):
    import numpy as np

    picture = sorted((scenes / "digit_scenes/test").glob("*.png"))[0]
    checkpoint = trained / "checkpoints/best.ckpt"
    found = []
    for explain in ("false", "true"):
        output = tmp_path / explain
        arguments = [f"--ckpt_path={checkpoint}", f"--input={picture}", f"--output={output}", "--training.min_score=0"]
        assert command(["predict", *arguments, f"--explain={explain}"], capsys)[0] == 0
        found.append((output / "predictions.json").read_text())
    assert found[0] == found[1]
    with np.load(tmp_path / "true/attention" / f"{picture.stem}.npz") as arrays:
        for name in ("cross_attention", "encoder_attention"):
            assert arrays[name].shape[2:] == (16, 16)  # of 128 pixels, after three stages
            np.testing.assert_allclose(arrays[name].sum((2, 3)), 1.0, rtol=1e-4)


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

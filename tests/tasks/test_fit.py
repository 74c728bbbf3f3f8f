"""`fit`, and what a run leaves behind."""

import json
import os
import signal

import pytest
import torch
import yaml

from tasks.checkpoint import load
from tasks.vit.module import ViTModule
from tests.tasks.conftest import SMALL, best, losses

LIVELY = ["--training.mixup=0.2", "--training.cutmix=1.0", "--model.encoder.drop_path=0.3", "--model.dropout=0.1"]


def test_fit_leaves_a_whole_run(command, tmp_path):
    outcome = command("fit", *SMALL, f"--runs={tmp_path}")
    assert outcome.code == 0
    assert outcome.run.parent == tmp_path / "vit"
    assert {path.name for path in outcome.run.iterdir()} >= {
        "config.yaml",
        "metrics.json",
        "metrics.csv",
        "checkpoints",
        "confusion.png",
    }
    assert {path.name for path in (outcome.run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert {"test/accuracy", "test/accuracy_top5", "test/ece", "test/loss", "test/accuracy/7", "val/accuracy"} <= set(
        outcome.metrics
    )
    config = yaml.safe_load((outcome.run / "config.yaml").read_text())
    assert config["model"]["num_classes"] == 10
    assert config["model"]["image_size"] == [28, 28]
    assert config["seed_everything"] == 0


def test_second_run_has_its_own_folder_and_the_same_numbers(command, tmp_path):
    first = command("fit", *SMALL, *LIVELY, f"--runs={tmp_path}")
    second = command("fit", *SMALL, *LIVELY, f"--runs={tmp_path}")
    assert first.run != second.run
    assert losses(first.run) == losses(second.run)
    assert first.metrics == second.metrics
    other_seed = command("fit", *SMALL, *LIVELY, f"--runs={tmp_path}", "--seed_everything=1")
    assert losses(other_seed.run) != losses(first.run)


def test_resolved_config_is_an_experiment(command, trained, tmp_path):
    again = command("fit", "--config", trained / "config.yaml", f"--runs={tmp_path}")
    assert losses(again.run) == losses(trained)


@pytest.mark.parametrize("workers", [0, 2])
def test_interrupted_run_resumes_bitwise(command, tmp_path, monkeypatch, workers):
    args = [*SMALL, *LIVELY, f"--runs={tmp_path}", f"--data.num_workers={workers}", "--training.ema_decay=0.9"]
    handler = signal.getsignal(signal.SIGINT)
    whole = command("fit", *args)

    steps = 0
    original = ViTModule.training_step

    def press_ctrl_c(self, batch, batch_idx):
        nonlocal steps
        steps += 1
        if steps == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(ViTModule, "training_step", press_ctrl_c)
    stopped = command("fit", *args)
    monkeypatch.undo()
    assert stopped.code == 1
    assert "stopped after step 7" in stopped.one_line
    resume = stopped.one_line.partition("go on with: python -m tasks.vit ")[2].split()
    resumed = command(*resume, f"--runs={tmp_path}")

    expected = losses(whole.run)
    assert losses(resumed.run) == {step: loss for step, loss in expected.items() if step >= 7}
    assert resumed.metrics == whole.metrics
    last = [torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (whole.run, resumed.run)]
    for name, tensor in last[0]["state_dict"].items():
        assert torch.equal(tensor, last[1]["state_dict"][name])
    assert signal.getsignal(signal.SIGINT) is handler


def test_killed_run_resumes_bitwise_from_its_last_epoch(command, tmp_path, monkeypatch):
    args = [*SMALL, *LIVELY, f"--runs={tmp_path}", "--training.ema_decay=0.9", "--trainer.max_epochs=3"]
    whole = command("fit", *args)
    original = ViTModule.training_step

    def die(self, batch, batch_idx):
        if self.global_step == 12:
            raise RuntimeError("killed")
        return original(self, batch, batch_idx)

    monkeypatch.setattr(ViTModule, "training_step", die)
    with pytest.raises(RuntimeError, match="killed"):
        command("fit", *args)
    monkeypatch.undo()
    killed = max((tmp_path / "vit").iterdir())
    resumed = command("fit", f"--ckpt_path={killed / 'checkpoints/last.ckpt'}", f"--runs={tmp_path}")
    assert losses(resumed.run) == {step: loss for step, loss in losses(whole.run).items() if step >= 10}
    assert resumed.metrics == whole.metrics


def test_resumed_run_keeps_the_best_so_far(command, trained, tmp_path):
    """A run that learns nothing more still ends with the best of the run that it goes on from."""
    resumed = command(
        "fit",
        f"--ckpt_path={trained / 'checkpoints/last.ckpt'}",
        f"--runs={tmp_path}",
        "--trainer.max_epochs=3",
        "--training.optimizer.lr=0",
    )
    assert resumed.code == 0
    assert (resumed.run / "checkpoints/best.ckpt").is_file()
    assert (
        resumed.metrics["val/accuracy"]
        >= torch.load(trained / "checkpoints/best.ckpt", weights_only=True)["onecore"]["metrics"]["val/accuracy"]
    )


def test_averaged_weights_are_validated_saved_and_predicted(command, trained, tmp_path):
    checkpoint = torch.load(trained / "checkpoints/best.ckpt", weights_only=True)
    averaged, raw = checkpoint["state_dict"], checkpoint["current_model_state"]
    name = "network.head.weight"
    assert not torch.equal(averaged[name], raw[name])
    assert torch.equal(load(trained / "checkpoints/best.ckpt", ViTModule).state_dict()[name], averaged[name])
    limits = ["--trainer.limit_val_batches=2", "--trainer.enable_progress_bar=false", f"--runs={tmp_path}"]
    validated = command("validate", best(trained), *limits)
    assert validated.metrics["val/loss"] == pytest.approx(checkpoint["onecore"]["metrics"]["val/loss"], rel=1e-6)
    limits[0] = "--trainer.limit_test_batches=2"
    tested = command("test", best(trained), *limits)
    fitted = json.loads((trained / "metrics.json").read_text())
    assert tested.metrics["test/loss"] == pytest.approx(fitted["test/loss"], rel=1e-6)


def test_nan_loss_stops_and_keeps_the_last_good_checkpoint(command, tmp_path, monkeypatch):
    original = ViTModule.training_step

    def poisoned(self, batch, batch_idx):
        loss = original(self, batch, batch_idx)
        return loss * float("nan") if self.global_step == 7 else loss

    monkeypatch.setattr(ViTModule, "training_step", poisoned)
    outcome = command("fit", *SMALL, f"--runs={tmp_path}")
    assert outcome.code == 1
    assert "nan at step 7" in outcome.one_line
    assert "learning rate" in outcome.one_line
    (run,) = (tmp_path / "vit").iterdir()
    kept = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert kept["global_step"] == 5
    assert all(tensor.isfinite().all() for tensor in kept["state_dict"].values())


def test_linear_probe_trains_the_head_alone(command, tmp_path):
    parts = "[patch_embedding,position,prefix_tokens,encoder]"
    outcome = command("fit", *SMALL, f"--runs={tmp_path}", f"--training.freeze={parts}", "--training.ema_decay=0")
    states = [
        torch.load(outcome.run / f"checkpoints/{name}.ckpt", weights_only=True)["state_dict"] for name in ("last",)
    ]
    torch.manual_seed(0)
    rebuilt = load(outcome.run / "checkpoints/last.ckpt", ViTModule)
    trainable = [name for name, parameter in rebuilt.named_parameters() if parameter.requires_grad]
    assert trainable == ["network.head.weight", "network.head.bias"]
    assert states


def test_starts_from_an_earlier_run_at_another_size(command, trained, tmp_path):
    args = [*SMALL, f"--model.pretrained={trained / 'checkpoints/best.ckpt'}", "--training.optimizer.lr=0"]
    same = command("fit", *args, f"--runs={tmp_path}")
    assert same.metrics["test/loss"] == pytest.approx(json.loads((trained / "metrics.json").read_text())["test/loss"])
    larger = command("fit", *args, f"--runs={tmp_path}", "--data.image_size=[40,56]")
    assert larger.code == 0
    assert yaml.safe_load((larger.run / "config.yaml").read_text())["model"]["image_size"] == [40, 56]
    wrong = command("fit", *args, f"--runs={tmp_path}", "--model.encoder.num_layers=3")
    assert wrong.code == 1
    assert "num_layers" in wrong.one_line


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("LinearAttention", {}),
        ("SparseAttention", {"stride": 3}),
        ("FixedSparseAttention", {"stride": 4, "summary_size": 2}),
        ("LongformerAttention", {"window_size": 4, "num_global_tokens": 1}),
    ],
)
def test_every_attention_by_flag(command, tmp_path, name, arguments):
    flags = [f"--model.encoder.attention.{key}={value}" for key, value in arguments.items()]
    outcome = command("fit", *SMALL, f"--runs={tmp_path}", f"--model.encoder.attention={name}", *flags)
    assert outcome.code == 0, outcome.err
    mechanism = load(outcome.run / "checkpoints/best.ckpt", ViTModule).network.encoder.layers[0].attention.attention
    assert type(mechanism).__name__ == name
    assert {key: getattr(mechanism, key) for key in arguments} == arguments


def test_own_attention_by_flag(command, tmp_path, monkeypatch):
    module = tmp_path / "own_attention.py"
    module.write_text(
        "from core.attention import FullAttention\n\nclass Halved(FullAttention):\n"
        "    def forward(self, q, k, v, **masks):\n        return super().forward(q, k, v, **masks) / 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    outcome = command("fit", *SMALL, f"--runs={tmp_path}", "--model.encoder.attention=own_attention.Halved")
    assert outcome.code == 0
    rebuilt = load(outcome.run / "checkpoints/best.ckpt", ViTModule)
    assert type(rebuilt.network.encoder.layers[0].attention.attention).__name__ == "Halved"


def test_tensorboard_by_configuration(command, tmp_path):
    pytest.importorskip("tensorboard")
    args = [arg for arg in SMALL if not arg.startswith("--trainer.logger")]
    outcome = command("fit", *args, f"--runs={tmp_path}")
    assert list(outcome.run.glob("events.out.tfevents*"))
    assert (outcome.run / "metrics.csv").is_file()

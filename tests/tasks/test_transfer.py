"""A task's encoder starts as that of another task's run, through the real command line."""

from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from tasks.callbacks import MovingAverage
from tasks.catalogue import TASKS
from tasks.checkpoint import load
from tasks.cli import TaskCLI
from tasks.forecast.module import ForecastModule
from tasks.launch import launch
from tasks.vit.module import ViTModule
from tests.tasks.conftest import (
    FEW_BATCHES,
    SMALL_ASR,
    SMALL_DETR,
    SMALL_FORECAST,
    Outcome,
    losses,
    run_once,
)

COMMON = [
    "--model.encoder.embed_dim=16",
    "--model.encoder.num_heads=4",
    "--model.encoder.num_layers=1",
    "--model.encoder.ffn_dim=16",
]
"""The encoder that SMALL_ASR and SMALL_FORECAST have, too."""
ARGUMENTS = {
    "vit": [*FEW_BATCHES, *COMMON, "--trainer.max_epochs=1", "--trainer.limit_train_batches=3", "--data.batch_size=8"],
    "detr": [
        *SMALL_DETR,
        *COMMON,
        "--model.decoder.embed_dim=16",
        "--model.decoder.num_layers=1",
        "--model.decoder.ffn_dim=16",
        "--model.queries.num_queries=4",
    ],
    "asr": SMALL_ASR,
    "forecast": SMALL_FORECAST,
}
HEADS = {
    "vit": "head.weight",
    "detr": "class_head.weight",
    "asr": "ctc_head.weight",
    "forecast": "projection.weight",
}


@pytest.fixture(scope="module")
def data(scenes, sentences) -> dict[str, Path]:
    return {"detr": scenes, "asr": sentences}


@pytest.fixture(scope="module")
def sources(data, asr_trained, forecast_trained, tmp_path_factory) -> dict[str, Path]:
    """A run of each task with the same encoder."""
    made = {
        task: run_once(task, ARGUMENTS[task], tmp_path_factory.mktemp("runs"), data.get(task))
        for task in ("vit", "detr")
    }
    return made | {"asr": asr_trained, "forecast": forecast_trained}


@pytest.fixture
def fit(data, tmp_path, monkeypatch, capsys) -> Callable[..., Outcome]:
    """Runs `python -m tasks.TASK fit ARGS` on a small network."""

    def run(task: str, *args: str | Path) -> Outcome:
        if task in data:
            monkeypatch.setenv("ONECORE_DATA", str(data[task]))
        capsys.readouterr()
        code = launch(task, ["fit", *ARGUMENTS[task], f"--runs={tmp_path}", *map(str, args)])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def built(monkeypatch) -> list[TaskCLI]:
    """The command lines whose `fit` trains nothing; they end with `run:` as others do."""
    seen: list[TaskCLI] = []

    def keep(self: TaskCLI, model, datamodule, ckpt_path=None) -> None:
        seen.append(self)
        self.random_state = torch.get_rng_state()  # that orders the data
        self.last_line = f"run: {self.run_folder}"

    monkeypatch.setattr(TaskCLI, "fit", keep)
    return seen


def weights(run: Path, name: str = "best", key: str = "state_dict") -> dict[str, Tensor]:
    return torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True)[key]


def encoder(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {name: weight for name, weight in weights.items() if name.startswith("network.encoder.")}
    assert found
    return found


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def run_config(run: Path) -> dict:
    return yaml.safe_load((run / "config.yaml").read_text())["model"]


CYCLE = (("vit", "detr"), ("detr", "asr"), ("asr", "forecast"), ("forecast", "vit"))
"""Each task once as source and once as target; the other pairs are as the cycle's but for who is who."""
PAIRS = [pytest.param(*pair, marks=[] if pair in CYCLE else [pytest.mark.slow]) for pair in permutations(TASKS, 2)]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_each_task_starts_from_each_other(fit, sources, built, source, target):
    outcome = fit(target, f"--model.encoder_from={sources[source]}")
    assert outcome.code == 0, outcome.err
    assert fit(target).code == 0
    taken, fresh = built
    own, random = taken.model.state_dict(), fresh.model.state_dict()
    assert equal(encoder(own), encoder(weights(sources[source])))
    assert not equal(encoder(random), encoder(own))
    rest = [name for name in own if ".encoder." not in name]  # a module knows its network by two names
    assert rest
    assert all(torch.equal(own[name], random[name]) for name in rest)
    assert all(parameter.requires_grad for parameter in taken.model.network.encoder.parameters())
    file = sources[source] / "checkpoints/best.ckpt"
    assert f"from {file}, a run of tasks.{source}; everything else starts afresh" in outcome.err
    assert run_config(outcome.run)["encoder_from"] == str(file)


@pytest.mark.parametrize(
    ("source", "target"), [("asr", "vit"), ("vit", "detr"), ("forecast", "asr"), ("detr", "forecast")]
)
def test_frozen_encoder_stays_and_the_head_learns(fit, sources, source, target):
    """Neither decay nor averaging moves it by a bit, nor the dropout that the target's encoder has."""
    outcome = fit(
        target,
        f"--model.encoder_from={sources[source]}",
        "--model.freeze_encoder=true",
        "--model.encoder.dropout=0.3",
        "--training.optimizer.weight_decay=0.5",
        "--training.ema_decay=0.9",
    )
    assert outcome.code == 0, outcome.err
    assert ", frozen; everything else" in outcome.err
    averaged, trained = (weights(outcome.run, "last", key) for key in ("state_dict", "current_model_state"))
    for state in (averaged, trained):
        assert equal(encoder(state), encoder(weights(sources[source])))
    head = "network." + HEADS[target]
    assert not torch.equal(averaged[head], trained[head])  # it has moved


def test_without_freezing_the_encoder_learns_on(fit, sources):
    run = fit("vit", f"--model.encoder_from={sources['asr']}").run
    assert not equal(encoder(weights(run)), encoder(weights(sources["asr"])))


def test_frozen_random_encoder(fit):
    """The control: the encoder that the seed gives, as it was."""
    run = fit("vit", "--model.freeze_encoder=true", "--training.ema_decay=0.9").run
    averaged, trained = (weights(run, "last", key) for key in ("state_dict", "current_model_state"))
    assert equal(encoder(averaged), encoder(trained))
    assert not torch.equal(averaged["network.head.weight"], trained["network.head.weight"])


def test_shuffled_encoder_has_the_numbers_and_not_their_order(fit, sources, built):
    """The control of a transfer; the seed decides it, and nothing else that is random changes."""
    start = f"--model.encoder_from={sources['detr']}"
    for more in ([], ["--model.shuffle_encoder=true"], ["--model.shuffle_encoder=true", "--seed_everything=1"]):
        outcome = fit("vit", start, *more)
        assert outcome.code == 0, outcome.err
        assert (", shuffled; everything else" in outcome.err) == bool(more)
    fit("vit", start, "--model.shuffle_encoder=true")
    learnt, shuffled, otherwise, again = ({**each.model.state_dict()} for each in built)
    assert equal(shuffled, again)
    for name, tensor in encoder(learnt).items():
        assert torch.equal(tensor.flatten().sort().values, shuffled[name].flatten().sort().values)
        if tensor.dim() == 2:
            assert not torch.equal(tensor, shuffled[name])
            assert not torch.equal(shuffled[name], otherwise[name])
    assert all(torch.equal(learnt[name], shuffled[name]) for name in learnt if ".encoder." not in name)
    assert torch.equal(built[0].random_state, built[1].random_state)


def test_shuffling_needs_what_it_shuffles(fit, sources, tmp_path, capsys):
    outcome = fit("vit", "--model.shuffle_encoder=true")
    assert outcome.code == 2
    assert "--model.shuffle_encoder=true shuffles what --model.encoder_from names" in outcome.one_line
    run = fit("vit", f"--model.encoder_from={sources['asr']}", "--model.shuffle_encoder=true").run
    last = f"--ckpt_path={run / 'checkpoints/last.ckpt'}"
    on = [last, f"--runs={tmp_path}", "--trainer.max_epochs=2", "--trainer.enable_progress_bar=false"]
    capsys.readouterr()
    assert launch("vit", ["fit", *on]) == 0
    resumed = Outcome(0, capsys.readouterr().out, "").run
    assert run_config(resumed)["shuffle_encoder"] is True
    last = f"--ckpt_path={sources['vit'] / 'checkpoints/last.ckpt'}"
    assert launch("vit", ["fit", last, "--model.shuffle_encoder=true"]) == 2
    assert "--model.shuffle_encoder=true: --ckpt_path has an encoder of its own" in capsys.readouterr().err


BATCH_NORM = ["--model.encoder.norm=core.BatchNorm", "--model.encoder.drop_path=0.5", "--training.ema_decay=0.9"]


def test_frozen_encoder_is_a_fixed_function(fit, monkeypatch):
    """No dropout, no stochastic depth, and a batch norm's statistics are neither those of the batch nor moved."""
    source = fit("forecast", *BATCH_NORM).run
    seen = []
    original = ForecastModule.training_step

    def look(self, batch, batch_idx):
        modules = self.network.encoder.modules()
        seen.append((self.network.dropout.training, [module.training for module in modules]))
        return original(self, batch, batch_idx)

    monkeypatch.setattr(ForecastModule, "training_step", look)
    frozen = ["--model.freeze_encoder=true", "--trainer.val_check_interval=1", "--trainer.max_epochs=2"]
    run = fit("forecast", *BATCH_NORM, f"--model.encoder_from={source}", *frozen).run
    assert len(seen) == 6
    assert all(head and not any(inside) for head, inside in seen)
    kept = encoder(weights(run, "last"))
    assert kept["network.encoder.norm.num_batches_tracked"] > 0
    assert equal(kept, encoder(weights(source)))
    assert equal(encoder(weights(run, "last", "current_model_state")), kept)


def test_resumes_from_its_own_checkpoint_alone(fit, sources, tmp_path, capsys):
    """Still frozen, the same as if it had never stopped; the other run is gone."""
    source = tmp_path / "source"
    (source / "checkpoints").mkdir(parents=True)
    (source / "checkpoints/last.ckpt").write_bytes((sources["asr"] / "checkpoints/best.ckpt").read_bytes())
    args = [f"--model.encoder_from={source}", "--model.freeze_encoder=true", "--training.ema_decay=0.9"]
    whole = fit("vit", *args, "--trainer.max_epochs=2").run
    half = fit("vit", *args).run
    (source / "checkpoints/last.ckpt").unlink()
    last = half / "checkpoints/last.ckpt"
    capsys.readouterr()

    def run(command: str, *more: object) -> Outcome:
        words = [command, f"--ckpt_path={last}", "--trainer.enable_progress_bar=false", *map(str, more)]
        code = launch("vit", words)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    resumed = run("fit", f"--runs={tmp_path}", "--trainer.max_epochs=2").run
    assert equal(encoder(weights(resumed, "last")), encoder(weights(sources["asr"])))
    assert losses(resumed).keys() == {3, 4, 5}
    assert run_config(resumed)["encoder_from"] == run_config(whole)["encoder_from"]
    assert run_config(resumed)["freeze_encoder"] is True
    tested = run("test", f"--runs={tmp_path}", "--trainer.limit_test_batches=2", "--trainer.accelerator=cpu")
    assert tested.code == 0
    assert run_config(tested.run)["encoder_from"] == run_config(whole)["encoder_from"]
    rebuilt = load(last, ViTModule)
    trained = [name for name, parameter in rebuilt.named_parameters() if parameter.requires_grad]
    assert "network.head.weight" in trained
    assert not [name for name in trained if ".encoder." in name]
    rebuilt.train()
    modes = dict(rebuilt.network.named_modules())
    assert modes["head"].training
    assert not modes["encoder"].training
    again = run("fit", f"--runs={tmp_path}", "--config", half / "config.yaml")
    assert again.code == 0, again.err  # its config names the same run
    other = run("fit", f"--runs={tmp_path}", f"--model.encoder_from={sources['detr']}")
    assert other.code == 2
    assert f"encoder_from={sources['detr']}: --ckpt_path has an encoder of its own" in other.one_line
    thawed = run("fit", f"--runs={tmp_path}", "--model.freeze_encoder=false")
    assert thawed.code == 2
    assert "freeze_encoder=false, but the run that goes on has true" in thawed.one_line


def test_resolved_config_is_an_experiment(fit, sources, tmp_path, monkeypatch):
    monkeypatch.chdir(sources["detr"].parent)
    first = fit("vit", f"--model.encoder_from={sources['detr'].name}", "--model.freeze_encoder=true").run
    monkeypatch.chdir(tmp_path)
    assert launch("vit", ["fit", "--config", str(first / "config.yaml"), f"--runs={tmp_path / 'again'}"]) == 0
    (again,) = (tmp_path / "again/vit").iterdir()
    assert losses(again) == losses(first)
    assert run_config(again) == run_config(first)


def test_other_attention_of_the_same_parameters(fit, sources, built):
    attention = ["--model.encoder.attention=LongformerAttention", "--model.encoder.attention.window_size=4"]
    assert fit("vit", f"--model.encoder_from={sources['forecast']}", *attention).code == 0
    assert equal(encoder(built[0].model.state_dict()), encoder(weights(sources["forecast"])))


def test_other_attention_of_other_parameters(fit, sources, tmp_path, monkeypatch):
    (tmp_path / "own_scaled.py").write_text(
        "import torch\nfrom core.attention import FullAttention\n\n\nclass Scaled(FullAttention):\n"
        "    def __init__(self):\n        super().__init__()\n        self.scale = torch.nn.Parameter(torch.ones(4))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = "--model.encoder.attention=own_scaled.Scaled"
    outcome = fit("vit", f"--model.encoder_from={sources['asr']}", own)
    assert outcome.code == 1
    assert "encoder.attention=Scaled, whose parameters are not those of the run's FullAttention" in outcome.one_line
    assert "encoder.layers.0.attention.attention.scale is 4 here and absent there" in outcome.one_line
    run = fit("vit", own).run
    outcome = fit("asr", f"--model.encoder_from={run}")
    assert "encoder.attention=FullAttention, whose parameters are not those of the run's Scaled" in outcome.one_line
    assert fit("vit", own, f"--model.encoder_from={run}").code == 0


def test_every_argument_that_differs_is_named(fit, sources):
    outcome = fit(
        "vit",
        f"--model.encoder_from={sources['asr']}",
        "--model.encoder.embed_dim=24",
        "--model.encoder.num_heads=2",
        "--model.encoder.num_layers=2",
        "--model.encoder.ffn_dim=null",
        "--model.encoder.norm_first=false",
        "--model.encoder.activation=torch.nn.ReLU",
        "--model.encoder.norm=core.BatchNorm",
        "--model.encoder.bias=false",
        "--model.encoder.rotary=core.RotaryPositionalEncoding",
        "--model.encoder.layer_scale=0.1",
        "--model.encoder.dropout=0.3",
        "--model.encoder.drop_path=0.3",
    )
    assert outcome.code == 1
    given, _, reasons = outcome.one_line.removeprefix("error: ").partition(": does not fit: ")
    assert given == f"--model.encoder_from={sources['asr']}"
    differing = dict(reason.split("=", 1) for reason in reasons.split("; "))
    assert differing == {
        "encoder.rotary": "core.RotaryPositionalEncoding, but the run has null",
        "encoder.embed_dim": "24, but the run has 16",
        "encoder.num_heads": "2, but the run has 4",
        "encoder.num_layers": "2, but the run has 1",
        "encoder.ffn_dim": "96, but the run has 16",
        "encoder.norm_first": "false, but the run has true",
        "encoder.final_norm": "false, but the run has true",
        "encoder.activation": "torch.nn.ReLU, but the run has torch.nn.GELU",
        "encoder.norm": "core.BatchNorm, but the run has torch.nn.LayerNorm",
        "encoder.bias": "false, but the run has true",
        "encoder.layer_scale": "0.1, but the run has null",
    }


def test_what_means_the_same_fits(fit):
    """`ffn_dim` and `final_norm` said or left to their defaults; LayerScale's values are taken over."""
    source = ["--model.encoder.ffn_dim=null", "--model.encoder.layer_scale=0.1"]
    target = ["--model.encoder.ffn_dim=64", "--model.encoder.final_norm=true", "--model.encoder.layer_scale=0.5"]
    run = fit("vit", *source).run
    outcome = fit("vit", f"--model.encoder_from={run}", *target, "--model.freeze_encoder=true")
    assert outcome.code == 0, outcome.err
    assert equal(encoder(weights(outcome.run)), encoder(weights(run)))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "there is no such file"),
        ("text.ckpt", "is no readable checkpoint"),
        ("foreign.ckpt", "was not written by onecore"),
        ("folder", "it has no checkpoints/best.ckpt and no last.ckpt"),
    ],
)
def test_what_is_no_checkpoint_of_ours(fit, tmp_path, name, reason):
    (tmp_path / "text.ckpt").write_text("no weights")
    torch.save({"state_dict": {"encoder.weight": torch.zeros(2)}}, tmp_path / "foreign.ckpt")
    (tmp_path / "folder").mkdir()
    outcome = fit("vit", f"--model.encoder_from={tmp_path / name}")
    assert outcome.code == 1
    assert f"--model.encoder_from={tmp_path / name}" in outcome.one_line
    assert reason in outcome.one_line
    assert not (tmp_path / "vit").exists()


def test_not_together_with_pretrained(fit, sources):
    file = sources["vit"] / "checkpoints/best.ckpt"
    outcome = fit("vit", f"--model.encoder_from={sources['asr']}", f"--model.pretrained={file}")
    assert outcome.code == 2
    assert f"--model.pretrained={file} both say what the encoder starts as" in outcome.one_line
    assert fit("vit", f"--model.pretrained={file}", "--model.freeze_encoder=true").code == 0


@pytest.mark.parametrize("task", TASKS)
def test_mistyped_argument_gets_a_hint(fit, task):
    outcome = fit(task, "--model.encoder_form=runs/vit/X")
    assert outcome.code == 2
    assert "there is no argument --model.encoder_form; did you mean --model.encoder_from?" in outcome.one_line


def test_training_freeze_rests_what_it_freezes(fit, monkeypatch):
    """A part that is not trained works as in evaluation; what is frozen in part trains on."""
    modes = {}
    original = ViTModule.training_step

    def look(self, batch, batch_idx):
        layers = self.network.encoder.layers
        modes.update(first=layers[0].training, second=layers[1].training, stack=layers.training)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(ViTModule, "training_step", look)
    assert fit("vit", "--training.freeze=[encoder.layers.0]", "--model.encoder.num_layers=2").code == 0
    assert modes == {"first": False, "second": True, "stack": True}


def test_average_of_what_does_not_move_is_exact():
    """Lightning's own, `decay * a + (1 - decay) * a`, is `a` rounded; of a frozen counter, `a - 1`."""
    average = MovingAverage(0.9)._kwargs["avg_fn"]
    still, counter = torch.randn(10_000), torch.tensor(3)
    assert torch.equal(average(still, still, counter), still)
    assert average(counter, counter, counter) == 3
    moved = average(torch.zeros(5), torch.ones(5), counter)
    assert torch.allclose(moved, torch.full((5,), 0.1))

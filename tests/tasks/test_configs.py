"""Every shipped experiment learns: trained for seconds on made data in its own layout, it beats its task's baseline."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
import timm
import torch
import yaml
from pytorch_lightning import LightningDataModule
from safetensors.torch import save_file
from torchvision import datasets

from datamodules import CIFAR10
from tasks.asr.evaluation import TranscriptEvaluation, error_rates
from tasks.build import TaskParser
from tasks.detr.evaluation import CocoEvaluation
from tests.datamodules.test_cifar import fake
from tests.tasks import made
from tests.tasks.conftest import run_once

CONFIGS = Path(__file__).parents[2] / "configs"
Part = Literal["val", "test"]
QUIET = [f"--trainer.{name}=false" for name in ("enable_progress_bar", "enable_model_summary", "logger")]
QUIET.append("--trainer.accelerator=cpu")


class Row(NamedTuple):
    """What makes an experiment take seconds.

    Attributes:
        write: Writes its data below a folder; None if they come with a package.
        why: Why it is changed so.
        flags: The changes; ROOT is the folder.
        over: The experiment that it goes over, if it is none by itself.
        part: The part that is looked at.
        most: The share of the baseline's error below which its own must lie: untrained weights do not.
        slow: Whether it takes too long for the default run.
    """

    write: Callable[[Path, pytest.MonkeyPatch], object] | None
    why: str
    flags: list[str]
    over: str = ""
    part: Part = "test"
    most: float = 0.9
    slow: bool = True


def write_cifar10(root: Path, patch: pytest.MonkeyPatch) -> None:
    def draw(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return made.paint(labels, 32, random).transpose(0, 3, 1, 2).reshape(len(labels), -1)

    names = {"label_key": "labels", "names_key": "label_names", "names": list(CIFAR10.names)}
    files = [f"data_batch_{number}" for number in range(1, 6)]
    fake(patch, root, datasets.CIFAR10, files, **names, draw=draw)


def write_folder_and_weights(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Random weights of a ViT in a file, as timm's published ones."""
    torch.manual_seed(0)
    save_file(timm.create_model("vit_tiny_patch16_224").state_dict(), root / "weights.safetensors")
    made.write_folder(root / "pictures", {"train": 30, "val": 8, "test": 8}, 64)


AVERAGE = "--training.ema_decay=0.9"
"""As shipped the average spans 70 to 5,000 steps, more than there are here: it would hold the weights of the start."""
PRETRAINED = ["--data.root=ROOT/pictures", "--model.pretrained=ROOT/weights.safetensors"]
COUNTS = {"train": 80, "val": 4, "test": 16}
TOKENS = {"data.tokenizer_file": "ROOT/tokenizer.json", "model.tokens.num_special": 3, "model.tokens.prompt": [1, 2]}
SMALL_TOKENIZER = [f"--{name}={value}" for name, value in TOKENS.items()]
UNPADDED = ["--model.features.padded=false", "--data.batch_seconds=8", "--training.decoding.max_ratio=0.2"]
PLAIN = "--data.augment=null"
"""As shipped it makes pictures of their full size, however small those on disk are."""


def thin(layers: int = 1, *stacks: str) -> list[str]:
    """Fewer layers: each costs time, and few steps teach few layers more."""
    return [f"--model.{stack}.num_layers={layers}" for stack in stacks or ("encoder",)]


def epochs(count: int) -> list[str]:
    """So many, and validated after the last alone."""
    return [f"--trainer.max_epochs={count}", f"--trainer.check_val_every_n_epoch={count}"]


ROWS = {
    "vit/mnist.yaml": Row(None, "80 steps", [*epochs(1), *thin(2), AVERAGE]),
    "vit/cifar10.yaml": Row(
        write_cifar10,
        "28 steps; the size of the batch is a GPU's",
        [*epochs(1), *thin(2), AVERAGE, "--data.batch_size=32", "--data.num_workers=0"],
        most=0.5,
    ),
    "vit/cifar10_cpu.yaml": Row(
        lambda root, _: made.write_folder(root, {"train": 60, "val": 10, "test": 10}, 32),
        "27 steps",
        [*epochs(3), *thin(2), AVERAGE, "--data.batch_size=32"],
        most=0.5,
        slow=False,
    ),
    "vit/finetune.yaml": Row(
        write_folder_and_weights,
        "18 steps; random weights have no need of 224 pixels",
        [*epochs(2), *PRETRAINED, "--data.batch_size=16", "--data.image_size=64"],
        most=0.5,
    ),
    "vit/long.yaml": Row(
        None,
        "196 patches and 150 steps; 1,024 and 500 take a minute and a half",
        ["--data.image_size=28", "--trainer.limit_train_batches=150", "--data.batch_size=16"],
    ),
    "detr/digits.yaml": Row(
        lambda root, _: made.write_scenes(root, COUNTS, (64, 64), most=2),
        "small scenes, of discs: digits are learnt in some thousand steps",
        [*epochs(6), *thin(1, "decoder"), AVERAGE, PLAIN],
    ),
    "detr/long.yaml": Row(
        lambda root, _: made.write_scenes(root, COUNTS, (64, 64), most=1),
        "256 cells and 160 steps; 1,600 and 1,000 take four minutes",
        [*epochs(4), "--data.image_size=64", "--data.batch_size=2"],
    ),
    "detr/bccd.yaml": Row(
        lambda root, _: made.write_cells(root, COUNTS, (64, 80), most=2),
        "small pictures",
        [*epochs(6), *thin(1, "decoder"), AVERAGE, PLAIN, "--data.image_size=64"],
    ),
    "detr/plain.yaml": Row(
        lambda root, _: made.write_cells(root, COUNTS, (64, 80), most=1, zoom=1.75),
        "one large cell a picture and few queries, which are slow to share several",
        [*epochs(15), *thin(1, "decoder"), AVERAGE, PLAIN, "--data.image_size=64", "--model.queries.num_queries=10"],
        over="detr/bccd.yaml",
    ),
    "detr/detr_r50_coco.yaml": Row(
        lambda root, _: made.write_coco(root, {"train": 64, "val": 16}, (64, 64), most=1, zoom=1.75),
        "small pictures and a small network; the rate is for weights of ImageNet and 300 epochs, random ones need more",
        [*epochs(20), *thin(1, "encoder", "decoder"), PLAIN, "--training.optimizer.lr=1e-3", "--data.batch_size=8"]
        + ["--data.image_size=96", "--data.num_workers=0", "--model.queries.num_queries=20"]
        + ["--model.backbone.name=test_resnet", "--model.backbone.pretrained=false"]
        + [f"--model.{stack}.{size}" for stack in ("encoder", "decoder") for size in ("embed_dim=64", "ffn_dim=256")],
    ),
    "asr/sentences.yaml": Row(
        lambda root, _: made.write_sentences(root, {"train": 64, "val": 8, "test": 16}),
        "tones for words",
        [*epochs(12), *thin(), AVERAGE, "--data.batch_seconds=4"],
    ),
    "asr/long.yaml": Row(
        lambda root, _: made.write_sentences(root, {"train": 64, "val": 8, "test": 16}),
        "tones for words, joined to 1 s",
        [*epochs(40), "--data.joined_seconds=1", "--data.batch_seconds=4"],
    ),
    "asr/fsdd.yaml": Row(
        lambda root, _: made.write_beeps(root, 16),
        "tones for digits",
        [*epochs(12), *thin(), AVERAGE, "--data.batch_seconds=4"],
    ),
    "asr/whisper_tiny.yaml": Row(
        lambda root, _: made.write_manifest(root, {"train": 64, "val": 12}),
        "no silence up to 30 s; the rate is for the published weights, random ones need more; the tokenizer is small",
        [*epochs(5), *thin(1, "encoder", "decoder"), *SMALL_TOKENIZER, *UNPADDED, "--training.optimizer.lr=1e-3"],
    ),
    "forecast/demand.yaml": Row(
        None,
        "492 steps; on the test part a week ago is so good a forecast that it takes some 900 to beat it",
        [*epochs(4), *thin()],
        part="val",
    ),
    "forecast/long.yaml": Row(
        None,
        "a tenth of the lengths",
        ["--data.period=180", "--data.context_length=410", "--data.batch_size=16", "--trainer.limit_train_batches=120"],
        most=0.5,
    ),
    **{
        f"forecast/etth1_{horizon}.yaml": Row(
            lambda root, _: made.write_etth1(root),
            "60 steps, and the first windows of each part",
            [
                *epochs(1),
                *(
                    f"--trainer.limit_{part}_batches={60 if part == 'train' else 2}"
                    for part in ("train", "val", "test")
                ),
            ],
            most=0.8,
        )
        for horizon in (96, 192, 336, 720)
    },
}


class Measure(NamedTuple):
    """The error of a task's experiment by its metrics, and that of the baseline."""

    error: Callable[[dict[str, float]], float]
    baseline: Callable[[Any, Part, dict[str, float]], float]


def majority(data: Any, part: Part, metrics: dict[str, float]) -> float:
    """The error of who always names the most frequent class."""
    counts = data.pictures(part).labels.bincount()
    return 1 - int(counts.max()) / int(counts.sum())


def no_object(data: Any, part: Part, metrics: dict[str, float]) -> float:
    """1 - AP50 of who finds nothing."""
    evaluation = CocoEvaluation(data.class_names)
    nothing = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.long)}
    for batch in getattr(data, f"{part}_dataloader")():
        evaluation.update(batch["image_id"], [nothing] * len(batch["truth"]), batch["truth"])
    return 1 - evaluation.compute()["ap50"]


def blank(data: Any, part: Part, metrics: dict[str, float]) -> float:
    """The word error rate of who hears nothing."""
    evaluation = TranscriptEvaluation()
    for batch in getattr(data, f"{part}_dataloader")():
        evaluation.update(batch["name"], batch["text"], [""] * len(batch["name"]))
    return error_rates(evaluation.gather())["wer"]


def seasonal_naive(data: Any, part: Part, metrics: dict[str, float]) -> float:
    return metrics["naive_mae"]


MEASURES = {
    "vit": Measure(lambda metrics: 1 - metrics["accuracy"], majority),
    "detr": Measure(lambda metrics: 1 - metrics["ap50"], no_object),
    "asr": Measure(lambda metrics: metrics["wer"], blank),
    "forecast": Measure(lambda metrics: metrics["mae"], seasonal_naive),
}


def data_of(run: Path, part: Part) -> Any:
    """The data module of a run, from its resolved configuration."""
    parser = TaskParser()
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    config = yaml.safe_load((run / "config.yaml").read_text())["data"]
    data = parser.instantiate_classes(parser.parse_object({"data": config}))["data"]
    data.setup("validate" if part == "val" else part)
    return data


def errors(name: str, folder: Path, patch: pytest.MonkeyPatch, *more: str) -> tuple[float, float]:
    """The error of an experiment and that of its baseline, from a run within a folder."""
    row, task = ROWS[name], name.split("/")[0]
    root = folder / "data"
    root.mkdir()
    if row.write is not None:
        row.write(root, patch)
    flags = [flag.replace("ROOT", str(root)) for flag in (*row.flags, *more)]
    configs = [f"--config={CONFIGS / each}" for each in (row.over, name) if each]
    patch.setenv("ONECORE_DATA", str(root))
    run = run_once(task, [*configs, *QUIET, *flags], folder / "runs")
    every = json.loads((run / "metrics.json").read_text())
    metrics = {key.partition("/")[2]: value for key, value in every.items() if key.startswith(f"{row.part}/")}
    measure = MEASURES[task]
    return measure.error(metrics), measure.baseline(data_of(run, row.part), row.part, metrics)


def test_every_experiment_has_a_row():
    assert set(ROWS) == {str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml")}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if row.slow else []) for name, row in ROWS.items()]
)
def test_it_beats_its_baseline(name, tmp_path, monkeypatch):
    error, baseline = errors(name, tmp_path, monkeypatch)
    assert error < ROWS[name].most * baseline

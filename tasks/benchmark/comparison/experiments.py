"""The experiments that `python -m tasks.benchmark run` compares attentions in; imports nothing heavy."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.catalogue import CONFIGS

MECHANISMS = {
    "full": "FullAttention",
    "sparse": "SparseAttention",
    "linear": "LinearAttention",
    "longformer": "LongformerAttention",
}
REFERENCE = "full"
Settings = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Metric:
    """What of the test part is compared.

    Attributes:
        name: The metric.
        label: What it is called.
        higher_is_better: Whether more of it is better.
        baseline: What needs no learning, by name: its figure, or the metric that has it.
    """

    name: str
    label: str
    higher_is_better: bool
    baseline: tuple[str, float | str]


METRICS = {
    "vit": Metric("test/accuracy", "accuracy", True, ("majority class", 0.1)),  # all data here have ten equal classes
    "detr": Metric("test/ap50", "AP50", True, ("no object", 0.0)),
    "asr": Metric("test/wer", "word error rate", False, ("empty text", 1.0)),
    "forecast": Metric("test/mae", "MAE", False, ("seasonal-naive", "test/naive_mae")),
}


@dataclass(frozen=True)
class Experiment:
    """A task's experiment, in which the encoder's attention is swapped.

    Attributes:
        name: Names it on the page and in folders.
        task: The task.
        inputs: `default` or `long`.
        title: Says in a few words what a sample is.
        config: The experiment, a path below `configs`.
        epochs: How many the benchmark trains.
        quick_epochs: How many with `--quick`; 0 = it is measured but not trained.
        seconds: Of a training of so many epochs on one core, about.
        settings: Arguments of the mechanisms that have to fit the length.
        quick_args: What else is less with `--quick`.
        root: Folder of its data, below the root of all; None = they come with a package or are made.
    """

    name: str
    task: str
    inputs: str
    title: str
    config: str
    epochs: int
    quick_epochs: int
    seconds: float
    settings: Settings
    quick_args: tuple[str, ...] = ()
    root: str | None = None

    @property
    def metric(self) -> Metric:
        """What is compared."""
        return METRICS[self.task]

    def attention_args(self, attention: str) -> tuple[str, ...]:
        """The arguments that put a mechanism into the encoder."""
        flag = "--model.encoder.attention"
        settings = self.settings.get(attention, {})
        return (f"{flag}={class_of(attention)}", *(f"{flag}.{name}={value}" for name, value in settings.items()))

    def args(self, attention: str, *, epochs: int, data_root: Path) -> tuple[str, ...]:
        """What follows `fit`: validation only at the end, so that no checkpoint is chosen among several."""
        args = ["--config", os.path.relpath(CONFIGS / self.config), *self.attention_args(attention)]
        args += [f"--trainer.max_epochs={epochs}", f"--trainer.check_val_every_n_epoch={epochs}"]
        args += ["--trainer.accelerator=cpu"]
        if self.root is not None:
            args.append(f"--data.root={data_root / self.root}")
        return tuple(args)


def class_of(attention: str) -> str:
    """The class that a name of `MECHANISMS` stands for; another name is a class already."""
    return MECHANISMS.get(attention, attention)


EMBEDDED = (
    Experiment(
        name="vit",
        task="vit",
        inputs="default",
        title="digits of 28x28 in patches of 7x7",
        config="vit/mnist.yaml",
        epochs=10,
        quick_epochs=1,
        seconds=130,
        settings={
            "sparse": {"stride": 4},
            "longformer": {"window_size": 8, "num_global_tokens": 1},
        },
    ),
    Experiment(
        name="detr",
        task="detr",
        inputs="default",
        title="scenes of 128x128 with 1 to 8 digits",
        config="detr/digits.yaml",
        epochs=5,
        quick_epochs=1,
        quick_args=("--trainer.limit_train_batches=60", "--trainer.limit_test_batches=10"),
        seconds=350,
        settings={"sparse": {"stride": 16}, "longformer": {"window_size": 64}},
    ),
    Experiment(
        name="asr",
        task="asr",
        inputs="default",
        title="spoken sentences of 1 to 5 s",
        config="asr/sentences.yaml",
        epochs=3,
        quick_epochs=1,
        quick_args=("--trainer.limit_train_batches=60", "--trainer.limit_test_batches=10"),
        seconds=250,
        settings={"sparse": {"stride": 7}, "longformer": {"window_size": 16}},
    ),
    Experiment(
        name="forecast",
        task="forecast",
        inputs="default",
        title="a week of half-hourly demand, a day ahead",
        config="forecast/demand.yaml",
        epochs=20,
        quick_epochs=2,
        seconds=40,
        settings={"sparse": {"stride": 4}, "longformer": {"window_size": 4}},
    ),
    Experiment(
        name="vit_long",
        task="vit",
        inputs="long",
        title="digits enlarged to 64x64 in patches of 2x2",
        config="vit/long.yaml",
        epochs=2,
        quick_epochs=0,
        seconds=170,
        settings={"sparse": {"stride": 32}, "longformer": {"window_size": 128}},
    ),
    Experiment(
        name="detr_long",
        task="detr",
        inputs="long",
        title="scenes of 160x160 in cells of 4x4",
        config="detr/long.yaml",
        epochs=1,
        quick_epochs=0,
        seconds=230,
        settings={"sparse": {"stride": 40}, "longformer": {"window_size": 160}},
    ),
    Experiment(
        name="asr_long",
        task="asr",
        inputs="long",
        title="30 s of spoken digits, a token every 10 ms",
        config="asr/long.yaml",
        epochs=10,
        quick_epochs=0,
        seconds=230,
        settings={"sparse": {"stride": 55}, "longformer": {"window_size": 128}},
    ),
    Experiment(
        name="forecast_long",
        task="forecast",
        inputs="long",
        title="a history of 4,096 steps, a token each",
        config="forecast/long.yaml",
        epochs=1,
        quick_epochs=0,
        seconds=150,
        settings={"sparse": {"stride": 64}, "longformer": {"window_size": 128}},
    ),
)
CANONICAL = (
    replace(
        EMBEDDED[0],
        title="CIFAR-10 in patches of 4x4",
        config="vit/cifar10_cpu.yaml",
        epochs=5,
        quick_epochs=1,
        quick_args=("--trainer.limit_train_batches=60",),  # the test part lies sorted by class
        seconds=2000,
        settings={"sparse": {"stride": 8}, "longformer": {"window_size": 16}},
        root="cifar10",
    ),
    replace(
        EMBEDDED[1],
        title="blood cells (BCCD) of 240 pixels",
        config="detr/bccd.yaml",
        epochs=30,
        quick_epochs=2,
        seconds=1200,
        settings={"sparse": {"stride": 40}, "longformer": {"window_size": 128}},
        root="BCCD_Dataset",
    ),
    replace(
        EMBEDDED[2],
        title="spoken digits (free-spoken-digit-dataset)",
        config="asr/fsdd.yaml",
        epochs=8,
        quick_epochs=1,
        seconds=300,
        root="free-spoken-digit-dataset",
    ),
    replace(
        EMBEDDED[3],
        title="ETTh1, 96 hours ahead",
        config="forecast/etth1_96.yaml",
        epochs=6,
        quick_epochs=1,
        seconds=160,
        root=".",
    ),
)
EXPERIMENTS: dict[str, tuple[Experiment, ...]] = {"embedded": EMBEDDED, "canonical": CANONICAL}
"""By the data that they are about."""

"""What `python -m tasks.benchmark run` trains and measures; imports nothing heavy."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasks.benchmark.trainings import Training
from tasks.errors import UsageError

MECHANISMS = {
    "full": "FullAttention",
    "sparse": "SparseAttention",
    "linear": "LinearAttention",
    "longformer": "LongformerAttention",
}
REFERENCE = "full"
_CONFIGS = Path(__file__).resolve().parents[3] / "configs"
Settings = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Experiment:
    """A task's experiment, in which the encoder's attention is swapped.

    Attributes:
        name: Names it on the page and in folders.
        task: The task.
        inputs: `default` or `long`.
        title: Says in a few words what a sample is.
        config: The experiment, a path below `configs`.
        metric: What is compared, of the test part.
        label: What the metric is called.
        higher_is_better: Whether more of it is better.
        baseline: What a network that has learnt nothing reaches, by name: a figure, or the metric that has it.
        epochs: How many the benchmark trains.
        quick_epochs: How many with `--quick`; 0 = it is measured but not trained.
        seconds: Of a training of so many epochs on one core, about.
        settings: Arguments of the mechanisms that have to fit the length.
        root: Folder of its data, below the root of all; None = they come with a package or are made.
    """

    name: str
    task: str
    inputs: str
    title: str
    config: str
    metric: str
    label: str
    higher_is_better: bool
    baseline: tuple[str, float | str]
    epochs: int
    quick_epochs: int
    seconds: float
    settings: Settings
    root: str | None = None

    def attention_args(self, attention: str) -> tuple[str, ...]:
        """The arguments that put a mechanism into the encoder."""
        flag = "--model.encoder.attention"
        settings = self.settings.get(attention, {})
        return (f"{flag}={class_of(attention)}", *(f"{flag}.{name}={value}" for name, value in settings.items()))

    def args(self, attention: str, *, epochs: int, data_root: Path) -> tuple[str, ...]:
        """What follows `fit`: validation only at the end, so that no checkpoint is chosen among several."""
        args = ["--config", os.path.relpath(_CONFIGS / self.config), *self.attention_args(attention)]
        args += [f"--trainer.max_epochs={epochs}", f"--trainer.check_val_every_n_epoch={epochs}"]
        args += ["--trainer.accelerator=cpu"]
        if self.root is not None:
            args.append(f"--data.root={data_root / self.root}")
        return tuple(args)


EMBEDDED = (
    Experiment(
        name="vit",
        task="vit",
        inputs="default",
        title="digits of 28x28 in patches of 7x7",
        config="vit/mnist.yaml",
        metric="test/accuracy",
        label="accuracy",
        higher_is_better=True,
        baseline=("majority class", 0.1),
        epochs=15,
        quick_epochs=3,
        seconds=60,
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
        metric="test/ap50",
        label="AP50",
        higher_is_better=True,
        baseline=("no object", 0.0),
        epochs=6,
        quick_epochs=1,
        seconds=200,
        settings={"sparse": {"stride": 16}, "longformer": {"window_size": 64}},
    ),
    Experiment(
        name="asr",
        task="asr",
        inputs="default",
        title="spoken sentences of 1 to 5 s",
        config="asr/sentences.yaml",
        metric="test/wer",
        label="word error rate",
        higher_is_better=False,
        baseline=("empty text", 1.0),
        epochs=3,
        quick_epochs=1,
        seconds=200,
        settings={"sparse": {"stride": 7}, "longformer": {"window_size": 16}},
    ),
    Experiment(
        name="forecast",
        task="forecast",
        inputs="default",
        title="a week of half-hourly demand, a day ahead",
        config="forecast/demand.yaml",
        metric="test/mae",
        label="MAE",
        higher_is_better=False,
        baseline=("seasonal-naive", "test/naive_mae"),
        epochs=20,
        quick_epochs=4,
        seconds=40,
        settings={"sparse": {"stride": 4}, "longformer": {"window_size": 4}},
    ),
)
CANONICAL = (
    replace(
        EMBEDDED[0],
        title="CIFAR-10 in patches of 4x4",
        config="vit/cifar10_cpu.yaml",
        epochs=5,
        quick_epochs=1,
        seconds=600,
        settings={"sparse": {"stride": 8}, "longformer": {"window_size": 16}},
        root="cifar10",
    ),
    replace(
        EMBEDDED[1],
        title="blood cells (BCCD) of 240 pixels",
        config="detr/bccd.yaml",
        epochs=30,
        quick_epochs=2,
        seconds=600,
        settings={"sparse": {"stride": 40}, "longformer": {"window_size": 128}},
        root="BCCD_Dataset",
    ),
    replace(
        EMBEDDED[2],
        title="spoken digits (free-spoken-digit-dataset)",
        config="asr/fsdd.yaml",
        epochs=8,
        quick_epochs=1,
        seconds=150,
        root="free-spoken-digit-dataset",
    ),
    replace(
        EMBEDDED[3],
        title="ETTh1, 96 hours ahead",
        config="forecast/etth1_96.yaml",
        epochs=6,
        quick_epochs=1,
        seconds=60,
        root=".",
    ),
)
EXPERIMENTS: dict[str, tuple[Experiment, ...]] = {"embedded": EMBEDDED, "canonical": CANONICAL}
"""By the data that they are about."""
TASKS = tuple(dict.fromkeys(each.task for each in EMBEDDED))


@dataclass(frozen=True)
class Plan:
    """The command's options.

    Attributes:
        data: Which data: `embedded` or `canonical`.
        inputs: `default`, `long` or `all`.
        tasks: Whose experiments.
        attentions: Names of `MECHANISMS`, or classes as `module.Class`.
        seeds: How many of each training.
        quick: Whether little is trained and measured, to see that all works.
        data_root: Where canonical data are.
        jobs: Trainings at once.
        threads: Threads of torch in the measurements of cost; a training has one.
        processes: Fresh processes for each measurement of cost.
        rounds: Rounds in each.
    """

    data: str
    inputs: str
    tasks: tuple[str, ...]
    attentions: tuple[str, ...]
    seeds: int
    quick: bool
    data_root: str
    jobs: int
    threads: int
    processes: int
    rounds: int

    @classmethod
    def of(
        cls,
        *,
        quick: bool,
        seeds: int | None = None,
        processes: int | None = None,
        rounds: int | None = None,
        data_root: str | None = None,
        **options: Any,
    ) -> "Plan":
        """Makes the plan of a command line, in which much may not be given."""
        return cls(
            quick=quick,
            seeds=seeds or (1 if quick else 3),
            processes=processes or (1 if quick else 3),
            rounds=rounds or (3 if quick else 7),
            data_root=str(Path(data_root or os.environ.get("ONECORE_DATA") or "data").expanduser().absolute()),
            **options,
        )

    def experiments(self) -> list[Experiment]:
        """Those that the options name.

        Raises:
            UsageError: If there are none.
        """
        chosen = [
            each for each in EXPERIMENTS[self.data] if each.task in self.tasks and self.inputs in ("all", each.inputs)
        ]
        if not chosen:
            raise UsageError(f"--data {self.data} has no {self.inputs} inputs for {', '.join(self.tasks)}")
        return chosen

    def trainings(self) -> list[Training]:
        """One for each experiment, attention and seed: all of the first seed first, so that a part is a table too."""
        made = []
        for seed in range(self.seeds):
            for each in self.experiments():
                epochs = each.quick_epochs if self.quick else each.epochs
                for attention in self.attentions if epochs else ():
                    args = each.args(attention, epochs=epochs, data_root=Path(self.data_root))
                    seconds = 10 + each.seconds * epochs / each.epochs
                    made.append(Training(training_name(each.name, attention, seed), each.task, args, seed, seconds))
        return made


def training_name(experiment: str, attention: str, seed: int) -> str:
    """Names a training's folder."""
    return f"{experiment}.{attention}.{seed}"


def class_of(attention: str) -> str:
    """The class that a name of `MECHANISMS` stands for; another name is a class already."""
    return MECHANISMS.get(attention, attention)

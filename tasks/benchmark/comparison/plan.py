"""What `python -m tasks.benchmark run` trains and measures; imports nothing heavy."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.benchmark.comparison import experiments
from tasks.benchmark.comparison.experiments import Experiment
from tasks.errors import UsageError
from tasks.trainings import Training


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
            each
            for each in experiments.EXPERIMENTS[self.data]
            if each.task in self.tasks and self.inputs in ("all", each.inputs)
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
                    args += each.quick_args if self.quick else ()
                    seconds = 10 + each.seconds * epochs / each.epochs
                    made.append(Training(training_name(each.name, attention, seed), each.task, args, seed, seconds))
        return made


def training_name(experiment: str, attention: str, seed: int) -> str:
    """Names a training's folder."""
    return f"{experiment}.{attention}.{seed}"

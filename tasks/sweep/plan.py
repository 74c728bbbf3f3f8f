"""A sweep's options, kept in its folder, and the trainings that they ask for."""

import os
from dataclasses import dataclass
from typing import Any

from tasks.errors import UsageError
from tasks.sweep.samplers import RandomSearch, Sampler, TreeParzen
from tasks.sweep.space import Values, parse_space
from tasks.trainings import Training

CONFIG = "config.yaml"
"""The experiment that is varied, in the sweep's folder: a trial is this file and its values."""


@dataclass(frozen=True)
class Plan:
    """What a sweep was asked for.

    Attributes:
        task: Name of the task.
        space: What is varied, as `--space` has it.
        trials: How many trainings.
        sampler: How values are chosen.
        jobs: Trials at once.
        threads: Threads of torch in each.
        seed: Of each trial, and of the sampler.
        monitor: The metric of validation that compares them.
        mode: Whether the best is the least ("min") or the greatest ("max").
    """

    task: str
    space: tuple[str, ...]
    trials: int
    sampler: str
    jobs: int
    threads: int
    seed: int
    monitor: str
    mode: str

    @classmethod
    def of(cls, task: str, options: Any, config: dict[str, Any]) -> "Plan":
        """Makes one of the command's options and the experiment's configuration.

        Raises:
            UsageError: If they cannot be a sweep; one line.
        """
        seed, monitor = config["seed_everything"], config["training"]["monitor"]
        if isinstance(seed, bool):
            raise UsageError(f"--seed_everything={seed}: a sweep needs a number, the seed of all its trials")
        if not monitor.startswith("val/"):
            raise UsageError(f"--training.monitor={monitor}: trials are compared by a metric of validation, val/...")
        cores = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
        return cls(
            task=task,
            space=tuple(options.space),
            trials=options.trials,
            sampler=options.sampler,
            jobs=options.jobs,
            threads=options.threads or max(1, cores // options.jobs),
            seed=seed,
            monitor=monitor,
            mode=config["training"]["monitor_mode"],
        )

    def make_sampler(self) -> Sampler:
        """Makes what chooses the values.

        Raises:
            UsageError: If what it needs is not installed.
        """
        space = parse_space(self.space)
        if self.sampler == "tpe":
            return TreeParzen(space, self.seed, mode=self.mode, jobs=self.jobs)
        return RandomSearch(space, self.seed)

    def training(self, number: int, values: Values) -> Training:
        """A trial, from 1 on: it never tests, so that nobody chooses by the test part."""
        args = ["--config={folder}/" + CONFIG, *as_arguments(values), "--trainer.limit_test_batches=0"]
        return Training(self.name(number), self.task, tuple(args), self.seed, goes_on=True)

    def name(self, number: int) -> str:
        """Names a trial and its folder."""
        return f"trial-{number:0{len(str(self.trials))}}"


def as_arguments(values: Values) -> list[str]:
    """Values as `fit` takes them."""
    return [f"--{name}={value}" for name, value in values.items()]

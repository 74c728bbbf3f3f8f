"""Which values a sweep tries next: a function of its seed, and of what came of the trials before.

Nothing is remembered between two calls, so that a sweep that goes on proposes what it would have proposed.
"""

import math
import random
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from tasks.errors import UsageError
from tasks.sweep.space import Choice, Dimension, LogRange, Values


class Tried(NamedTuple):
    """What came of a trial.

    Attributes:
        values: What it tried.
        metric: What it reached; None = it failed.
    """

    values: Values
    metric: float | None


class Sampler(Protocol):
    """Chooses values."""

    def __call__(self, tried: Sequence[Tried], wanted: int) -> list[Values]:
        """Gives the values of the next trials, which run at once.

        Args:
            tried: All trials before, in their order.
            wanted: The most trials.
        """
        ...


class RandomSearch:
    """Draws each argument by itself (Bergstra and Bengio 2012); nothing twice.

    Args:
        space: What is varied.
        seed: Decides what is drawn; the first trials are the same, however many follow.
    """

    def __init__(self, space: Sequence[Dimension], seed: int) -> None:
        self.space = space
        self.seed = seed

    def __call__(self, tried: Sequence[Tried], wanted: int) -> list[Values]:
        """All that are wanted, since no trial depends on another."""
        known = [each.values for each in tried]
        for _ in range(wanted):
            known.append(self.draw(len(known), known))
        return known[len(tried) :]

    def draw(self, number: int, known: Iterable[Values]) -> Values:
        """The values of a trial that are unlike all that are known, as long as there are such.

        Args:
            number: Of the trial, from 0.
            known: What was drawn before.
        """
        known, source = list(known), random.Random(f"{self.seed}:{number}")
        while True:
            values = {each.name: each.at(source.random()) for each in self.space}
            if values not in known or len(known) >= size_of(self.space):
                return values


class TreeParzen:
    """The tree-structured Parzen estimator (Bergstra et al. 2011), of optuna; its first ten trials are random.

    Args:
        space: What is varied.
        seed: Decides what is drawn.
        mode: Whether the best is the least ("min") or the greatest ("max").
        jobs: How many trials run at once, and so do not know of each other.

    Raises:
        UsageError: If optuna is not installed.
    """

    def __init__(self, space: Sequence[Dimension], seed: int, *, mode: str, jobs: int) -> None:
        try:
            import optuna
        except ImportError:
            raise UsageError("--sampler=tpe needs optuna: pip install -e '.[sweep]'") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.random = RandomSearch(space, seed)
        direction = optuna.study.StudyDirection
        self.direction = {"min": direction.MINIMIZE, "max": direction.MAXIMIZE}[mode]
        self.jobs = jobs

    def __call__(self, tried: Sequence[Tried], wanted: int) -> list[Values]:
        """As many as run at once."""
        import optuna

        space = self.random.space
        distributions = {each.name: _distribution(each) for each in space}
        # A seed for each round, by a multiple, lest those of neighbouring seeds be the same a round later.
        sampler = optuna.samplers.TPESampler(seed=(self.random.seed * 1_000_003 + len(tried)) % 2**32)
        study = optuna.create_study(sampler=sampler, direction=self.direction)
        for each in tried:
            params = {dimension.name: _read(dimension, each.values[dimension.name]) for dimension in space}
            state = optuna.trial.TrialState.FAIL if each.metric is None else optuna.trial.TrialState.COMPLETE
            past = {"params": params, "distributions": distributions, "state": state, "value": each.metric}
            study.add_trial(optuna.trial.create_trial(**past))
        known = [each.values for each in tried]
        for _ in range(min(wanted, self.jobs)):
            asked = study.ask(distributions).params
            values = {dimension.name: dimension.written(asked[dimension.name]) for dimension in space}
            known.append(self.random.draw(len(known), known) if values in known else values)
        return known[len(tried) :]


def size_of(space: Iterable[Dimension]) -> float:
    """How many combinations there are."""
    return math.prod(each.size for each in space)


def _distribution(dimension: Dimension) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    log = isinstance(dimension, LogRange)
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=log)
    return FloatDistribution(dimension.low, dimension.high, log=log)


def _read(dimension: Dimension, text: str) -> Any:
    if isinstance(dimension, Choice):
        return text
    return int(text) if dimension.whole else float(text)

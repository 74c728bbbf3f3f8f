"""What came of a sweep's trials: the best, a table, a file."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.table import Table

from tasks.sweep.plan import Plan
from tasks.sweep.space import Values
from tasks.tables import as_csv, as_table
from tasks.trainings import DONE, FAILED, Finished

SHOWN = 20
"""Trials that the table on the console has at most."""


class Trial(NamedTuple):
    """What came of a trial.

    Attributes:
        number: Its number, from 1.
        values: What it tried.
        status: `done`, `failed`, or `not finished`.
        metric: What it reached by the sweep's monitor; None where it reached nothing that can be compared.
        reason: Why there is no metric.
        finished: What its process left.
    """

    number: int
    values: Values
    status: str
    metric: float | None
    reason: str | None
    finished: Finished | None


def trials_of(plan: Plan, values: Sequence[Values], finished: Mapping[str, Finished]) -> list[Trial]:
    """What came of each trial, in their order."""
    return [_trial(plan, number, each, finished.get(plan.name(number))) for number, each in enumerate(values, 1)]


def _trial(plan: Plan, number: int, values: Values, finished: Finished | None) -> Trial:
    if finished is None:
        return Trial(number, values, "not finished", None, None, None)
    metric, reason = finished.metrics.get(plan.monitor), finished.reason
    if finished.status == DONE and (metric is None or not math.isfinite(metric)):
        reason = f"{plan.monitor} is {'not among its metrics' if metric is None else metric}"
    if reason is not None:
        return Trial(number, values, FAILED, None, reason, finished)
    return Trial(number, values, DONE, metric, None, finished)


def ranked(plan: Plan, trials: Sequence[Trial]) -> list[Trial]:
    """Those with a metric, the best first; of equals the earlier."""
    sign = {"min": 1, "max": -1}[plan.mode]
    return sorted((each for each in trials if each.metric is not None), key=lambda each: sign * (each.metric or 0.0))


def names_of(trials: Sequence[Trial]) -> list[str]:
    """The arguments that are varied."""
    return list(trials[0].values) if trials else []


def csv_of(plan: Plan, trials: Sequence[Trial]) -> str:
    """All trials: their values, what they reached and why not, their seconds, and where their runs are."""
    names = names_of(trials)
    rows = []
    for each in trials:
        left = each.finished
        seconds, run = (None, None) if left is None else (round(left.seconds, 1), left.run)
        values = [each.values[name] for name in names]
        rows.append([each.number, *values, each.metric, each.status, each.reason, seconds, run])
    return as_csv(["trial", *names, plan.monitor, "status", "reason", "seconds", "run"], rows)


def table_of(plan: Plan, trials: Sequence[Trial]) -> Table:
    """The best trials."""
    best = ranked(plan, trials)[:SHOWN]
    names = names_of(trials)
    lasts = [name.rpartition(".")[2] for name in names]
    heads = [last if lasts.count(last) == 1 else name for last, name in zip(lasts, names, strict=True)]
    rows = [[str(each.number), f"{each.metric:.6g}", *(each.values[name] for name in names)] for each in best]
    more = f" (the best {SHOWN})" if len(ranked(plan, trials)) > SHOWN else ""
    return as_table(f"{len(trials)} trials by {plan.monitor}{more}", ["trial", plan.monitor, *heads], rows)

"""Quality over several seeds: what a run gave, the spread, and when one is better than another."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.benchmark.comparison.experiments import Experiment, Metric
from tasks.trainings import DONE, FAILED, Finished, with_runs

MISSING = "missing"
NOT_YET = "not trained yet"


def facts_of(experiment: Experiment, known: Finished | None) -> dict[str, Any]:
    """What a report says once of an experiment.

    Args:
        experiment: The experiment.
        known: One of its trainings, whose metrics have the baseline's where it is measured.
    """
    metric = experiment.metric
    label, value = metric.baseline
    if isinstance(value, str):
        value = known.metrics[value] if known and known.status == DONE else None
    return {
        "name": experiment.name,
        "task": experiment.task,
        "title": experiment.title,
        "config": f"configs/{experiment.config}",
        "metric": metric.name,
        "label": metric.label,
        "higher_is_better": metric.higher_is_better,
        "baseline": {"label": label, "value": value},
    }


def run_of(seed: int, name: str, metric: Metric, finished: Mapping[str, Finished]) -> dict[str, Any]:
    """What a training gave, as a report has it; paths in its command are relative to the report's folder."""
    known = finished.get(name)
    if known is None:
        return {"seed": seed, "status": MISSING, "reason": NOT_YET, "quality": None, "metrics": {}}
    return {
        "seed": seed,
        "status": known.status,
        "reason": known.reason,
        "quality": known.metrics.get(metric.name),
        "metrics": known.metrics,
        "seconds": known.seconds,
        "cpu_seconds": known.cpu_seconds,
        "command": with_runs(known.command, {each: ended.run for each, ended in finished.items()}, Path("trainings")),
        "folder": known.run,
        "commit": known.commit,
        "machine": known.machine,
    }


def trained_on(finished: Mapping[str, Finished]) -> list[str]:
    """The machines that the trainings ran on, by how many: mostly one, but a run can be gone on with elsewhere."""
    counts = Counter(each.machine for each in finished.values() if each.machine)
    return [f"{machine} ({count} trainings)" for machine, count in counts.most_common()]


def state_of(runs: Sequence[Mapping[str, Any]], untrained: str = NOT_YET) -> dict[str, Any]:
    """Status, reason and quality of the runs of all seeds; `untrained` is the reason where there are none."""
    values = [run["quality"] for run in runs if run["status"] == DONE]
    failed = [f"seed {run['seed']}: {run['reason']}" for run in runs if run["status"] == FAILED]
    return {
        "status": FAILED if failed else DONE if values else MISSING,
        "reason": "; ".join(failed) or (None if values else untrained),
        "quality": spread_of(values),
    }


def spread_of(values: Sequence[float]) -> dict[str, float | None] | None:
    """Mean and standard deviation over seeds, least and greatest; one seed has no deviation."""
    if not values:
        return None
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": deviation, "least": min(values), "greatest": max(values)}


def judge_quality(own: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]], metric: Metric) -> str:
    """Better or worse only if every seed is better, or worse, than every seed of the other."""
    sign = 1 if metric.higher_is_better else -1
    ours, theirs = ([sign * run["quality"] for run in runs if run["status"] == DONE] for runs in (own, other))
    if min(len(ours), len(theirs)) < 2:
        return "unknown"
    return "better" if min(ours) > max(theirs) else "worse" if max(ours) < min(theirs) else "same"

"""From trainings and costs to the cells of `results.json`: spreads, ratios to full attention, and verdicts."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.benchmark.attention.rows import pooled, ratio
from tasks.benchmark.comparison.experiments import REFERENCE, Experiment
from tasks.benchmark.comparison.plan import Plan, training_name
from tasks.benchmark.comparison.quality import NOT_YET, facts_of, judge_quality, run_of, state_of
from tasks.benchmark.report import spread
from tasks.trainings import DONE, Finished

PARAMETERS = 0.02
"""How far the parameters of two mechanisms may differ."""
MEMORY = 0.02
"""How far peaks of memory may differ and count as the same."""
Cell = dict[str, Any]
Costs = Mapping[str, Sequence[Mapping[str, Mapping[str, Any]]]]
"""Of each experiment what each process found of each mechanism."""


def entries_of(plan: Plan, finished: Mapping[str, Finished], costs: Costs) -> list[dict[str, Any]]:
    """What is said once of an experiment."""
    made = []
    for each in plan.experiments():
        own = [finished.get(training_name(each.name, name, 0)) for name in plan.attentions]
        known = next((training for training in own if training and training.status == DONE), None)
        tokens = next((found["tokens"] for found in _first(costs, each).values() if "tokens" in found), None)
        epochs = each.quick_epochs if plan.quick else each.epochs
        made.append(facts_of(each, known) | {"inputs": each.inputs, "tokens": tokens, "epochs": epochs})
    return made


def cells_of(plan: Plan, finished: Mapping[str, Finished], costs: Costs) -> list[Cell]:
    """A cell for each experiment and attention."""
    commands = {each.name: each.command for each in plan.trainings()}
    cells = []
    for each in plan.experiments():
        own = [_cell(each, name, plan, finished, commands, costs) for name in plan.attentions]
        full = next((cell for cell in own if cell["attention"] == REFERENCE), None)
        for cell in own:
            _compare(cell, full, each)
        cells += own
    for cell in cells:
        del cell["times"]
    return cells


def _cell(
    experiment: Experiment,
    attention: str,
    plan: Plan,
    finished: Mapping[str, Finished],
    commands: Mapping[str, str],
    costs: Costs,
) -> Cell:
    names = [training_name(experiment.name, attention, seed) for seed in range(plan.seeds)]
    runs = [run_of(seed, name, experiment.metric, finished) for seed, name in enumerate(names) if name in commands]
    found = [process[attention] for process in costs.get(experiment.name, ()) if attention in process]
    counts: Mapping[str, Any] = found[0] if found else {}
    timed = [each for each in found if "train_ms" in each]
    times = {mode: [each[f"{mode}_ms"] for each in timed] for mode in ("train", "inference")}
    return {
        "entry": experiment.name,
        "task": experiment.task,
        "inputs": experiment.inputs,
        "attention": attention,
        "settings": dict(experiment.settings.get(attention, {})),
        **state_of(runs, NOT_YET if runs else "measured only, not trained"),
        "command": commands.get(names[0], "").replace("--seed_everything=0", "--seed_everything=SEED") or None,
        "runs": runs,
        **{name: counts.get(name) for name in ("parameters", "flops", "train_flops", "peak_bytes")},
        "parameters_to_full": None,
        "memory_to_full": None,
        "train": _train(times["train"], timed[0]["samples"]) if timed else None,
        "inference": {"milliseconds": spread(pooled(times["inference"])), "full_time_by_its": None} if timed else None,
        "cost_reason": None if timed else counts.get("reason", "not measured yet"),
        "times": times,
    }


def _train(times: Sequence[Sequence[float]], samples: int) -> dict[str, Any]:
    milliseconds = pooled(times)
    return {
        "milliseconds": spread(milliseconds),
        "samples_per_second": spread([samples / value * 1e3 for value in milliseconds]),
        "full_time_by_its": None,
    }


def _compare(cell: Cell, full: Cell | None, experiment: Experiment) -> None:
    """Fills in what is said of a cell beside full attention's."""
    if full is None or cell is full:
        word = "reference" if cell is full else "unknown"
        cell["verdict"] = {"quality": word, "time": word, "memory": word, "text": ""}
        return
    for name, key in (("parameters", "parameters_to_full"), ("peak_bytes", "memory_to_full")):
        if cell[name] and full[name]:
            cell[key] = cell[name] / full[name]
    for mode in ("train", "inference"):
        if cell[mode] and full[mode]:
            cell[mode]["full_time_by_its"] = ratio(full["times"][mode], cell["times"][mode])
    unequal = cell["parameters_to_full"] is not None and abs(cell["parameters_to_full"] - 1) > PARAMETERS
    verdict = {
        "quality": "unknown" if unequal else judge_quality(cell["runs"], full["runs"], experiment.metric),
        "time": _judge_time(cell["train"] and cell["train"]["full_time_by_its"]),
        "memory": _judge_memory(cell["memory_to_full"]),
    }
    cell["verdict"] = verdict | {"text": _say(cell, full, verdict, experiment, unequal=unequal)}


def _judge_time(ratios: Mapping[str, float] | None) -> str:
    """Faster or slower only if three quarters of the rounds say so."""
    if ratios is None:
        return "unknown"
    return "faster" if ratios["first_quartile"] > 1 else "slower" if ratios["third_quartile"] < 1 else "same"


def _judge_memory(share: float | None) -> str:
    if share is None:
        return "unknown"
    return "less" if share < 1 - MEMORY else "more" if share > 1 + MEMORY else "same"


def _say(cell: Cell, full: Cell, verdict: Mapping[str, str], experiment: Experiment, *, unequal: bool) -> str:
    parts = []
    if unequal:
        parts.append(f"has {cell['parameters_to_full']:.2f} times full's parameters, so that nothing is compared")
    elif cell["quality"] and full["quality"]:
        word = {
            "better": "better with every seed than full with any",
            "worse": "worse with every seed than full with any",
            "same": "within the spread of the seeds",
            "unknown": "one seed says nothing of the spread",
        }[verdict["quality"]]
        own, theirs = (f"{each['quality']['mean']:.4g}" for each in (cell, full))
        parts.append(f"{experiment.metric.label} {own} against full's {theirs}, {word}")
    if verdict["time"] != "unknown":
        median = cell["train"]["full_time_by_its"]["median"]
        word = {"faster": "trains faster", "slower": "trains slower", "same": "trains as fast"}[verdict["time"]]
        parts.append(f"{word} ({1 / median:.2f} times full's time)")
    if verdict["memory"] != "unknown":
        parts.append(f"needs {cell['memory_to_full']:.2f} times full's memory")
    return "; ".join(parts)


def notes_of(plan: Plan, entries: Sequence[Mapping[str, Any]], cells: Sequence[Cell]) -> list[str]:
    """What the table says, in sentences: where a mechanism loses, and whether any is worth its place."""
    notes = []
    for entry in entries:
        own = [cell for cell in cells if cell["entry"] == entry["name"]]
        what = f"{entry['task']}, {entry['inputs']} inputs" + (
            f" ({entry['tokens']} tokens)" if entry["tokens"] else ""
        )
        notes += [f"{what}: {cell['attention']}: {cell['verdict']['text']}" for cell in own if cell["verdict"]["text"]]
        if len(own) > 1 and any(cell["verdict"]["time"] not in ("unknown", "reference") for cell in own):
            notes.append(f"{what}: {_winners(own)}")
        notes += _absences(f"{what}:", {cell["attention"]: cell["reason"] for cell in own if cell["status"] != DONE})
        notes += _absences(f"{what}: cost of", {cell["attention"]: cell["cost_reason"] for cell in own})
        notes += _below_baseline(what, entry, own)
    if plan.seeds < 2:
        notes.append("one seed: differences of quality say nothing; --seeds 3 shows the spread")
    return notes


def _absences(what: str, reasons: Mapping[str, str | None]) -> list[str]:
    """Who has no figure, those with the same reason together."""
    every = dict.fromkeys(reason for reason in reasons.values() if reason)
    names = {reason: [name for name, own in reasons.items() if own == reason] for reason in every}
    return [f"{what} {_listed(own)}: {reason}" for reason, own in names.items()]


def _winners(cells: Sequence[Cell]) -> str:
    good = [
        cell["attention"]
        for cell in cells
        if (cell["verdict"]["time"], cell["verdict"]["memory"]) == ("faster", "less")
    ]
    as_good = [
        cell["attention"]
        for cell in cells
        if cell["attention"] in good and cell["verdict"]["quality"] in ("same", "better")
    ]
    if as_good:
        return f"{_listed(as_good)} beat{'s' if len(as_good) == 1 else ''} full in time and memory, with quality kept"
    if good:
        return f"{_listed(good)} beat{'s' if len(good) == 1 else ''} full in time and memory, but not with its quality"
    return "no mechanism beats full attention in both time and memory here"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _below_baseline(what: str, entry: Mapping[str, Any], cells: Sequence[Cell]) -> list[str]:
    label, value = entry["baseline"]["label"], entry["baseline"]["value"]
    if value is None:
        return []
    sign = 1 if entry["higher_is_better"] else -1
    return [
        f"{what}: {cell['attention']} does not beat {label} ({entry['label']} {value:.4g})"
        for cell in cells
        if cell["quality"] and sign * cell["quality"]["mean"] <= sign * value
    ]


def _first(costs: Costs, experiment: Experiment) -> Mapping[str, Mapping[str, Any]]:
    processes = costs.get(experiment.name, ())
    return processes[0] if processes else {}

"""From trainings to the cells of `results.json`: what a start brings beside a random and a shuffled one; verdicts."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.benchmark.comparison.experiments import Experiment, Metric
from tasks.benchmark.comparison.quality import facts_of, judge_quality, run_of, spread_of, state_of
from tasks.benchmark.transfer.plan import MODES, RANDOM, Plan, from_another, source_name, target_name
from tasks.trainings import DONE, Finished

WORDS = {"better": "helps", "worse": "hurts", "same": "makes no difference"}
"""What a verdict on quality says of a start."""
_MEANINGS = {
    "better": "better with every seed than any of the random start",
    "worse": "worse with every seed than any of the random start",
    "same": "within the spread of the seeds",
    "unknown": "one seed says nothing of the spread",
}
_BESIDE = {"better": ", which is worse", "worse": ", which is better", "same": ", within the spread", "unknown": ""}
_AS_WELL = {"better": ("same", "worse"), "worse": ("same", "better")}
"""By what a start is beside a random one: what it is beside the shuffled one if it owes nothing to what was learnt."""
Cell = dict[str, Any]


def entries_of(plan: Plan, finished: Mapping[str, Finished]) -> list[dict[str, Any]]:
    """What is said once of a task, as a target and as a source."""
    made = []
    for each in plan.experiments():
        known = finished.get(target_name(each.task, RANDOM, "trained", 0))
        as_source, as_target = plan.epochs(each)
        runs = [run_of(seed, source_name(each.task, seed), each.metric, finished) for seed in range(plan.seeds)]
        source = {"epochs": as_source, **state_of(runs), "runs": runs}
        made.append(facts_of(each, known) | {"epochs": as_target, "source": source})
    return made


def cells_of(plan: Plan, finished: Mapping[str, Finished]) -> list[Cell]:
    """A cell for each target, mode and start, the random one first."""
    commands = {each.name: each.command for each in plan.trainings()}
    cells = []
    for each in plan.experiments():
        learning: Cell | None = None
        for mode in MODES:
            own = [_cell(each, start, mode, plan, finished, commands) for start in plan.starts()]
            learning = learning or own[0]
            for cell in own:
                _compare(cell, own[0], learning, each)
            cells += own
    return cells


def _cell(
    experiment: Experiment,
    start: str,
    mode: str,
    plan: Plan,
    finished: Mapping[str, Finished],
    commands: Mapping[str, str],
) -> Cell:
    def trained(*, shuffled: bool) -> dict[str, Any]:
        names = [target_name(experiment.task, start, mode, seed, shuffled=shuffled) for seed in range(plan.seeds)]
        runs = [run_of(seed, name, experiment.metric, finished) for seed, name in enumerate(names)]
        command = commands[names[0]].replace("--seed_everything=0", "--seed_everything=SEED")
        return {**state_of(runs), "command": command, "runs": runs}

    shuffled = trained(shuffled=True) if from_another(start, experiment.task) else None
    return {
        "entry": experiment.task,
        "start": start,
        "mode": mode,
        **trained(shuffled=False),
        "shuffled": shuffled,
    }


def _compare(cell: Cell, control: Cell, learning: Cell, experiment: Experiment) -> None:
    """Fills in what is said of a cell beside others: random starts of its own mode and of an encoder that learns, and
    the same start, shuffled.
    """
    metric, shuffled = experiment.metric, cell["shuffled"]

    def gain(other: Cell | None) -> dict[str, float | None] | None:
        return None if other is None or cell is other else spread_of(_gains(cell, other, metric))

    def verdict(other: Cell) -> str:
        return "reference" if cell is other else judge_quality(cell["runs"], other["runs"], metric)

    cell["gain"], cell["gain_to_trained"], cell["gain_to_shuffled"] = gain(control), gain(learning), gain(shuffled)
    cell["verdict"] = {
        "quality": verdict(control),
        "beside_trained": verdict(learning),
        "beside_shuffled": verdict(shuffled) if shuffled else None,
    }
    cell["verdict"]["text"] = "" if cell is control else _text(cell, control, metric)


def _text(cell: Cell, control: Cell, metric: Metric) -> str:
    """The figures of a cell beside a random start and the same start, shuffled."""
    if not (cell["quality"] and control["quality"]):
        return ""
    own, theirs = (f"{each['quality']['mean']:.4g}" for each in (cell, control))
    text = f"{metric.label} {own} against {theirs}, {_MEANINGS[cell['verdict']['quality']]}"
    if cell["shuffled"] and cell["shuffled"]["quality"]:
        text += f"; shuffled {cell['shuffled']['quality']['mean']:.4g}{_BESIDE[cell['verdict']['beside_shuffled']]}"
    return text


def word_of(cell: Mapping[str, Any]) -> str:
    """What a start does beside a random one, and whether it does so shuffled as well; empty where nothing is known."""
    verdict = cell["verdict"]
    if verdict["quality"] not in WORDS:
        return ""
    return WORDS[verdict["quality"]] + (", shuffled as well" if _owes_nothing(cell) else "")


def _owes_nothing(cell: Mapping[str, Any]) -> bool:
    """Whether a start that helps, or hurts, does so no more than the same numbers shuffled."""
    return cell["verdict"]["beside_shuffled"] in _AS_WELL.get(cell["verdict"]["quality"], ())


def _gains(cell: Cell, other: Cell, metric: Metric) -> list[float]:
    """By how much each seed is better than the same seed's other start, whose head and order of data are the same."""
    sign = 1 if metric.higher_is_better else -1
    pairs = zip(cell["runs"], other["runs"], strict=True)
    return [sign * (run["quality"] - its["quality"]) for run, its in pairs if run["status"] == its["status"] == DONE]


def notes_of(plan: Plan, entries: Sequence[Mapping[str, Any]], cells: Sequence[Cell]) -> list[str]:
    """What the tables say, in sentences: where transfer helps, where it hurts, where it makes no difference."""
    notes = []
    for mode in MODES:
        others = [cell for cell in cells if cell["mode"] == mode and from_another(cell["start"], cell["entry"])]
        notes += _summary(mode, others)
    for entry in entries:
        own = [cell for cell in cells if cell["entry"] == entry["name"]]
        notes += [_sentence(cell) for cell in own if cell["verdict"]["text"]]
        notes += _frozen_beside_trained(entry, own)
        notes += [f"{entry['name']}, {_name(cell)}: {cell['reason']}" for cell in own if cell["status"] != DONE]
        notes += [
            f"{entry['name']}, {_name(cell)}, shuffled: {cell['shuffled']['reason']}"
            for cell in own
            if cell["shuffled"] and cell["shuffled"]["status"] != DONE
        ]
        if entry["source"]["status"] != DONE:
            notes.append(f"{entry['name']} as a source: {entry['source']['reason']}")
    notes.append(
        "trained: the encoder learns on, against one that learns from a random start; frozen: it does not, against "
        "a random one that is frozen too. Lu et al. (2021) train the norms of a frozen encoder; here they rest as well"
    )
    notes.append(
        "shuffled: the other task's encoder with the numbers of each tensor in another order, so that how large they "
        "are stays and what was learnt goes; a start owes to what was learnt only what it does beyond this"
    )
    notes.append("from itself: the task's own encoder, a control, since it has seen these very data before")
    if plan.seeds < 2:
        notes.append("one seed: differences say nothing; --seeds 3 shows the spread")
    return notes


def _summary(mode: str, cells: Sequence[Cell]) -> list[str]:
    """How many starts of other tasks do what, and how many of them as well when they are shuffled."""
    found = {word: [c for c in cells if c["verdict"]["quality"] == key] for key, word in WORDS.items()}
    judged = sum(len(own) for own in found.values())
    if not judged:
        return []
    parts = [f"{word} in {_listed(own)}" for word, own in found.items()]
    made = [f"{mode}, of {judged} pairs of two tasks: another task's encoder {', '.join(parts)}"]
    known = [c for c in found["helps"] + found["hurts"] if c["verdict"]["beside_shuffled"] != "unknown"]
    if known:
        as_well = _listed([cell for cell in known if _owes_nothing(cell)])
        made.append(f"{mode}, of {len(known)} that help or hurt: as much with its numbers shuffled in {as_well}")
    return made


def _listed(cells: Sequence[Cell]) -> str:
    arrows = [f"{cell['start']} to {cell['entry']}" for cell in cells]
    return f"{len(arrows)} ({', '.join(arrows)})" if arrows else "0"


def _sentence(cell: Cell) -> str:
    return f"{cell['entry']}, {_name(cell)} {word_of(cell)}".rstrip() + f": {cell['verdict']['text']}"


def _frozen_beside_trained(entry: Mapping[str, Any], cells: Sequence[Cell]) -> list[str]:
    """Whether the head alone, on an encoder from elsewhere, does what the whole network does from a random start."""
    known = [
        cell
        for cell in cells
        if cell["mode"] == "frozen" and cell["verdict"]["beside_trained"] not in ("unknown", "reference")
    ]
    if not known:
        return []
    as_good = [cell["start"] for cell in known if cell["verdict"]["beside_trained"] in ("same", "better")]
    what = f"from {', '.join(as_good)}" if as_good else "from nowhere"
    return [f"{entry['name']}: a frozen encoder is as good as one that learns from a random start if it comes {what}"]


def _name(cell: Cell) -> str:
    if cell["start"] == RANDOM:
        return f"{cell['mode']}: a random start"
    return f"{cell['mode']}: from {'itself' if cell['start'] == cell['entry'] else cell['start']}"

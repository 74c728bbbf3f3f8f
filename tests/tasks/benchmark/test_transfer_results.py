"""What is trained of a transfer, and what is made of its results: gains, verdicts and notes by hand."""

import re

import pytest
import yaml

from tasks.benchmark.comparison.numbers import NONE
from tasks.benchmark.transfer import tables
from tasks.benchmark.transfer.plan import DECODED, ENCODER, EPOCHS, MODES, RANDOM, Plan, source_name, target_name
from tasks.benchmark.transfer.results import cells_of, entries_of, notes_of
from tasks.catalogue import TASKS
from tasks.launch import launch
from tasks.trainings import FAILED, Finished


def test_plan_is_one_encoder_and_equal_steps():
    plan = Plan.of(tasks=("vit", "detr", "asr", "forecast"), quick=False, jobs=2, threads=1)
    trainings = plan.trainings()
    assert plan.seeds == 3
    assert len(trainings) == len({each.name for each in trainings}) == 3 * (4 + 4 * (5 + 3) * 2)
    assert len({(each.seed, *each.args) for each in trainings}) == len(trainings)  # none is trained twice
    encoders = {
        tuple(arg for arg in each.args if re.match(r"--model\.encoder\.(?!attention)", arg)) for each in trainings
    }
    assert encoders == {tuple(f"--model.encoder.{name}={value}" for name, value in ENCODER.items())}
    names = [each.name for each in trainings]
    for each in trainings:
        assert all(names.index(name) < names.index(each.name) for name in each.after)
        if not each.name.startswith("source."):
            assert f"--trainer.max_epochs={EPOCHS[each.task]}" in each.args
        same_start = {arg for arg in each.args if "encoder_from" in arg}
        assert same_start == {f"--model.encoder_from={{run:{name}}}" for name in each.after}
        assert ("--model.freeze_encoder=true" in each.args) == each.name.split(".")[2].startswith("frozen")
        assert ("--model.shuffle_encoder=true" in each.args) == each.name.split(".")[1].endswith("-shuffled")


def made(plan: Plan, values: dict[tuple[str, str], list[float | None]], metric: str) -> dict[str, Finished]:
    """Trainings with given metrics by start and mode; None = failed."""
    finished = {}
    for (start, mode), seeds in values.items():
        for seed, value in enumerate(seeds):
            name = source_name("vit", seed) if mode == "source" else target_name("vit", start, mode, seed)
            ended = ("done", None, {metric: value}) if value is not None else ("failed", "no memory", {})
            finished[name] = Finished(*ended, 1.0, 1.0, "command", "run", "commit")
    return finished


def test_gains_and_verdicts_by_hand():
    plan = Plan(tasks=("vit",), seeds=3, quick=False, jobs=1, threads=1)
    values: dict[tuple[str, str], list[float | None]] = {
        ("vit", "source"): [0.9, 0.9, 0.9],
        (RANDOM, "trained"): [0.50, 0.60, 0.70],
        ("vit", "trained"): [0.80, 0.72, 0.71],
        (RANDOM, "frozen"): [0.30, 0.40, 0.35],
        ("vit", "frozen"): [0.20, 0.25, 0.29],
    }
    finished = made(plan, values, "test/accuracy")
    cells = {(cell["start"], cell["mode"]): cell for cell in cells_of(plan, finished)}
    better = cells["vit", "trained"]
    assert better["gain"]["mean"] == pytest.approx((0.30 + 0.12 + 0.01) / 3)
    assert (better["gain"]["least"], better["gain"]["greatest"]) == pytest.approx((0.01, 0.30))
    assert better["verdict"]["quality"] == "better"
    assert better["gain_to_trained"] == better["gain"]
    worse = cells["vit", "frozen"]
    assert worse["gain"]["mean"] == pytest.approx((-0.10 - 0.15 - 0.06) / 3)
    assert worse["gain_to_trained"]["mean"] == pytest.approx((-0.30 - 0.35 - 0.41) / 3)
    assert (worse["verdict"]["quality"], worse["verdict"]["beside_trained"]) == ("worse", "worse")
    assert cells[RANDOM, "trained"]["gain"] is None
    told = {"quality": "reference", "beside_trained": "worse", "beside_shuffled": None, "text": ""}
    assert cells[RANDOM, "frozen"]["verdict"] == told
    values["vit", "trained"] = [0.80, 0.72, 0.65]
    cells = cells_of(plan, made(plan, values, "test/accuracy"))
    assert cells[1]["verdict"]["quality"] == "same"
    values["vit", "trained"] = [None, 0.72, 0.71]
    cell = cells_of(plan, made(plan, values, "test/accuracy"))[1]
    assert (cell["status"], cell["reason"]) == (FAILED, "seed 0: no memory")
    assert cell["gain"]["mean"] == pytest.approx((0.12 + 0.01) / 2)
    assert cell["verdict"]["quality"] == "better"


def test_what_a_start_owes_to_the_size_of_its_numbers():
    """It helps, or hurts, by what it has learnt only if it does so more than the same numbers shuffled."""
    plan = Plan(tasks=("vit", "asr"), seeds=2, quick=False, jobs=1, threads=1)

    def told(start: float, shuffled: float | None) -> tuple[dict, list[str], list[list[str]]]:
        given = {(RANDOM, False): 0.5, ("asr", False): start, ("asr", True): shuffled}
        finished = {
            target_name("vit", name, "trained", seed, shuffled=what): Finished(
                *("done", None, {"test/accuracy": value + seed / 50}), 1.0, 1.0, "command", "run", "commit"
            )
            for (name, what), value in given.items()
            if value is not None
            for seed in range(2)
        }
        entries, cells = entries_of(plan, finished), cells_of(plan, finished)
        report = {"entries": entries, "cells": cells}
        return cells[2], notes_of(plan, entries, cells), tables.rows(report, "trained")

    for shuffled, beside, word in [(0.3, "better", "helps"), (0.7, "same", "helps, shuffled as well")]:
        cell, notes, rows = told(0.71, shuffled)
        assert cell["gain_to_shuffled"]["mean"] == pytest.approx(0.71 - shuffled)
        assert cell["verdict"]["beside_shuffled"] == beside
        assert rows[0][4] == f"72.0 ± 1.4 %, {word}"
        assert rows[1] == ["vit, shuffled", "", "", "", f"{100 * shuffled + 1:.1f} ± 1.4 %"]
        as_well = "1 (asr to vit)" if beside == "same" else "0"
        assert notes[1] == f"trained, of 1 that help or hurt: as much with its numbers shuffled in {as_well}"
    assert (
        "vit, trained: from asr helps, shuffled as well: accuracy 0.72 against 0.51, better with every seed than any "
        "of the random start; shuffled 0.71, within the spread" in notes
    )
    assert told(0.71, 0.9)[2][0][4].endswith(", helps, shuffled as well")  # better still
    assert told(0.3, 0.4)[2][0][4].endswith(", hurts")
    assert told(0.3, 0.2)[2][0][4].endswith(", hurts, shuffled as well")
    assert told(0.5, 0.2)[2][0][4].endswith(", makes no difference")
    cell, notes, rows = told(0.71, None)
    assert rows[0][4].endswith(", helps")
    assert rows[1][4] == NONE
    assert "vit, trained: from asr, shuffled: not trained yet" in notes
    assert not any("that help or hurt" in note for note in notes)


def test_less_is_better_where_the_metric_is_an_error():
    plan = Plan(tasks=("forecast",), seeds=2, quick=False, jobs=1, threads=1)
    finished = {
        target_name("forecast", start, "trained", seed): Finished(
            "done", None, {"test/mae": value + seed / 100, "test/naive_mae": 0.5}, 1.0, 1.0, "command", "run", "commit"
        )
        for start, value in {RANDOM: 0.4, "forecast": 0.3}.items()
        for seed in range(2)
    }
    entries, cells = entries_of(plan, finished), cells_of(plan, finished)
    assert entries[0]["baseline"] == {"label": "seasonal-naive", "value": 0.5}
    assert cells[1]["verdict"]["quality"] == "better"
    assert cells[1]["gain"]["mean"] == pytest.approx(0.1)
    assert cells[2]["status"] == "missing"
    assert cells[2]["gain"] is None


def test_notes_say_where_it_helps_hurts_and_does_nothing():
    plan = Plan(tasks=("vit", "asr", "forecast"), seeds=2, quick=False, jobs=1, threads=1)
    accuracy = {RANDOM: 0.5, "vit": 0.5, "asr": 0.7, "forecast": 0.3}
    error = {RANDOM: 0.5, "vit": 0.5, "asr": 0.505, "forecast": 0.2}
    finished = {}
    for task, metric, values in (("vit", "accuracy", accuracy), ("asr", "wer", error), ("forecast", "mae", error)):
        for start, mode, seed in ((start, mode, seed) for start in values for mode in MODES for seed in range(2)):
            lost = 0.0 if mode == "trained" else 0.4 if start != "asr" else 0.0
            value = values[start] + seed / 50 + (lost if metric != "accuracy" else -lost)
            metrics = {f"test/{metric}": value, "test/naive_mae": 0.6}
            finished[target_name(task, start, mode, seed)] = Finished(
                "done", None, metrics, 1.0, 1.0, "command", "run", "commit"
            )
    entries, cells = entries_of(plan, finished), cells_of(plan, finished)
    notes = notes_of(plan, entries, cells)
    assert notes[0] == (
        "trained, of 6 pairs of two tasks: another task's encoder helps in 2 (asr to vit, forecast to asr), hurts in 1 "
        "(forecast to vit), makes no difference in 3 (vit to asr, vit to forecast, asr to forecast)"
    )
    assert (
        "vit, trained: from asr helps: accuracy 0.71 against 0.51, better with every seed than any of the random start"
        in notes
    )
    assert (
        "vit, trained: from itself makes no difference: accuracy 0.51 against 0.51, within the spread of the seeds"
        in notes
    )
    assert "vit: a frozen encoder is as good as one that learns from a random start if it comes from asr" in notes
    report = {"entries": entries, "cells": cells}
    assert tables.columns(report) == ["to", "baseline", "random start", "from vit", "from asr", "from forecast"]
    assert tables.rows(report, "trained")[0] == [
        "vit (accuracy)",
        "majority class 10.0 %",
        "51.0 ± 1.4 %",
        "51.0 ± 1.4 %, makes no difference",
        "71.0 ± 1.4 %, helps",
        "31.0 ± 1.4 %, hurts",
    ]


@pytest.mark.parametrize("task", TASKS)
def test_tasks_take_the_plan(task, capsys):
    """Its arguments are real ones, and a decoder has the encoder's width."""
    plan = Plan.of(tasks=tuple(TASKS), quick=True, jobs=1, threads=1)
    source = "vit" if task != "vit" else "asr"
    (training,) = [each for each in plan.trainings() if each.name == f"{task}.{source}-shuffled.frozen.0"]
    with pytest.raises(SystemExit):
        launch(task, ["fit", *training.args, "--print_config"])
    model = yaml.safe_load(capsys.readouterr().out)["model"]
    assert model["encoder"]["init_args"].items() >= ENCODER.items()
    assert model["encoder_from"] == f"{{run:source.{source}.0}}"
    assert model["shuffle_encoder"] is True
    assert model["freeze_encoder"] is True
    assert (task in DECODED) == (model.get("decoder") is not None)
    if task in DECODED:
        assert model["decoder"]["init_args"]["embed_dim"] == ENCODER["embed_dim"]

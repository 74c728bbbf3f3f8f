from dataclasses import replace
from typing import Any

import pytest

from tasks.benchmark.comparison.experiments import EXPERIMENTS
from tasks.benchmark.comparison.plan import Plan, training_name
from tasks.benchmark.comparison.results import cells_of, entries_of, notes_of
from tasks.catalogue import TASKS
from tasks.trainings import DONE, FAILED, Finished

PLAN = Plan(
    data="embedded",
    inputs="default",
    tasks=("vit", "forecast"),
    attentions=("full", "linear"),
    seeds=3,
    quick=False,
    data_root="data",
    jobs=1,
    threads=1,
    processes=1,
    rounds=3,
)


def trained(experiment: str, attention: str, metric: str, values: list[float | None]) -> dict[str, Finished]:
    """One finished training a value; None = it failed."""
    made = {}
    for seed, value in enumerate(values):
        metrics = {} if value is None else {metric: value, "test/naive_mae": 0.5}
        status, reason = (FAILED, "it broke") if value is None else (DONE, None)
        made[training_name(experiment, attention, seed)] = Finished(
            status, reason, metrics, 10.0, 9.0, "python ...", "run", "abc"
        )
    return made


def cost(milliseconds: list[float], *, parameters: int = 100, peak: int = 1000) -> dict[str, Any]:
    return {
        "parameters": parameters,
        "tokens": 17,
        "flops": 5.0,
        "train_flops": 15.0,
        "peak_bytes": peak,
        "samples": 8,
        "train_ms": milliseconds,
        "inference_ms": milliseconds,
    }


def cell_of(full: list[float | None], linear: list[float | None], costs: Any = None, plan: Plan = PLAN) -> Any:
    finished = trained("vit", "full", "test/accuracy", full) | trained("vit", "linear", "test/accuracy", linear)
    cells = cells_of(plan, finished, {} if costs is None else {"vit": costs})
    return next(cell for cell in cells if (cell["entry"], cell["attention"]) == ("vit", "linear"))


@pytest.mark.parametrize(
    ("full", "linear", "verdict"),
    [
        ([0.90, 0.91, 0.92], [0.93, 0.94, 0.95], "better"),
        ([0.90, 0.91, 0.92], [0.87, 0.88, 0.89], "worse"),
        ([0.90, 0.91, 0.92], [0.92, 0.95, 0.99], "same"),  # one seed of full is as good as the worst of linear
        ([0.90, 0.91, 0.92], [0.80, 0.81, 0.90], "same"),
        ([0.90, None, None], [0.93, 0.94, 0.95], "unknown"),
        ([0.90, 0.91, 0.92], [None, None, None], "unknown"),
    ],
)
def test_quality_differs_only_where_no_seed_says_otherwise(full, linear, verdict):
    assert cell_of(full, linear)["verdict"]["quality"] == verdict


def test_an_error_is_better_where_it_is_less():
    finished = trained("forecast", "full", "test/mae", [0.3, 0.31, 0.32])
    finished |= trained("forecast", "linear", "test/mae", [0.1, 0.11, 0.12])
    cells = {cell["attention"]: cell for cell in cells_of(PLAN, finished, {}) if cell["entry"] == "forecast"}
    assert cells["linear"]["verdict"]["quality"] == "better"
    assert cells["full"]["verdict"]["quality"] == "reference"


def test_mean_and_deviation_by_hand():
    quality = cell_of([0.9] * 3, [0.80, 0.82, 0.84])["quality"]
    assert quality == pytest.approx({"mean": 0.82, "std": 0.02, "least": 0.80, "greatest": 0.84})


def test_a_failed_seed_is_named_and_the_others_count():
    cell = cell_of([0.9] * 3, [0.8, None, 0.7])
    assert cell["status"] == FAILED
    assert cell["reason"] == "seed 1: it broke"
    assert cell["quality"]["mean"] == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("linear", "word"), [([5.0, 5.0, 5.0], "faster"), ([20.0, 21.0, 22.0], "slower"), ([5.0, 10.0, 20.0], "same")]
)
def test_time_is_compared_within_each_round(linear: list[float], word: str):
    cell = cell_of([0.9] * 3, [0.9] * 3, [{"full": cost([10.0, 10.0, 10.0]), "linear": cost(linear)}])
    assert cell["verdict"]["time"] == word
    expected = sorted(10.0 / value for value in linear)[1]
    assert cell["train"]["full_time_by_its"]["median"] == pytest.approx(expected)
    assert cell["train"]["samples_per_second"]["median"] == pytest.approx(8 / sorted(linear)[1] * 1e3)


@pytest.mark.parametrize(("peak", "word"), [(1030, "more"), (1010, "same"), (970, "less")])
def test_memory_within_two_percent_is_the_same(peak: int, word: str):
    cell = cell_of([0.9] * 3, [0.9] * 3, [{"full": cost([1.0]), "linear": cost([1.0], peak=peak)}])
    assert cell["verdict"]["memory"] == word
    assert cell["memory_to_full"] == pytest.approx(peak / 1000)


def test_unequal_parameters_are_not_compared():
    costs = [{"full": cost([1.0]), "linear": cost([1.0], parameters=103)}]
    verdict = cell_of([0.9, 0.91, 0.92], [0.5, 0.51, 0.52], costs)["verdict"]
    assert verdict["quality"] == "unknown"
    assert "1.03 times full's parameters" in verdict["text"]
    costs = [{"full": cost([1.0]), "linear": cost([1.0], parameters=101)}]
    assert cell_of([0.9, 0.91, 0.92], [0.5, 0.51, 0.52], costs)["verdict"]["quality"] == "worse"


def test_nothing_measured_and_nothing_trained_is_a_table_too():
    cells = cells_of(PLAN, {}, {})
    assert {cell["status"] for cell in cells} == {"missing"}
    assert {cell["cost_reason"] for cell in cells} == {"not measured yet"}
    entries = entries_of(PLAN, {}, {})
    assert [entry["baseline"]["value"] for entry in entries] == [0.1, None]
    assert notes_of(PLAN, entries, cells)


def test_a_cost_that_failed_says_why():
    cell = cell_of([0.9] * 3, [0.9] * 3, [{"full": cost([1.0]), "linear": {"reason": "it refuses attn_mask"}}])
    assert cell["cost_reason"] == "it refuses attn_mask"
    assert cell["train"] is None


def notes(full: list[float | None], linear: list[float | None], peak: int, milliseconds: float) -> str:
    costs = {"vit": [{"full": cost([10.0] * 3), "linear": cost([milliseconds] * 3, peak=peak)}]}
    finished = trained("vit", "full", "test/accuracy", full) | trained("vit", "linear", "test/accuracy", linear)
    plan = replace(PLAN, tasks=("vit",))
    return "\n".join(notes_of(plan, entries_of(plan, finished, costs), cells_of(plan, finished, costs)))


def test_notes_say_who_wins_and_at_what_price():
    assert "linear beats full in time and memory, with quality kept" in notes([0.9] * 3, [0.9] * 3, 500, 5.0)
    assert "linear beats full in time and memory, but not with its quality" in notes([0.9] * 3, [0.8] * 3, 500, 5.0)
    assert "no mechanism beats full attention in both time and memory here" in notes([0.9] * 3, [0.9] * 3, 500, 20.0)
    assert "no mechanism beats full attention in both time and memory here" in notes([0.9] * 3, [0.9] * 3, 1500, 5.0)


def test_notes_say_who_does_not_beat_the_baseline():
    said = notes([0.9] * 3, [0.09] * 3, 500, 5.0)
    assert "linear does not beat majority class (accuracy 0.1)" in said
    assert "full does not beat" not in said


def test_notes_name_those_with_the_same_reason_together():
    plan = replace(PLAN, tasks=("vit",))
    said = notes_of(plan, entries_of(plan, {}, {}), cells_of(plan, {}, {}))
    assert "vit, default inputs: full and linear: not trained yet" in said
    assert "vit, default inputs: cost of full and linear: not measured yet" in said


def test_the_baseline_of_a_forecast_is_measured():
    finished = trained("forecast", "full", "test/mae", [0.3, 0.3, 0.3])
    entry = next(entry for entry in entries_of(PLAN, finished, {}) if entry["name"] == "forecast")
    assert entry["baseline"] == {"label": "seasonal-naive", "value": 0.5}


def test_trainings_of_a_seed_differ_in_the_attention_alone():
    by_name = {each.name: each for each in replace(PLAN, attentions=("full", "sparse", "linear")).trainings()}
    assert len(by_name) == 2 * 3 * 3
    full, sparse = by_name["vit.full.1"], by_name["vit.sparse.1"]
    differing = set(full.args) ^ set(sparse.args)
    assert all(arg.startswith("--model.encoder.attention") for arg in differing)
    assert full.seed == sparse.seed == 1
    assert [each.seed for each in by_name.values()] == sorted(each.seed for each in by_name.values())


@pytest.mark.parametrize("data", EXPERIMENTS)
def test_every_task_has_its_experiments(data: str):
    for task in TASKS:
        inputs = [each.inputs for each in EXPERIMENTS[data] if each.task == task]
        assert inputs.count("default") == 1
        if data == "embedded":
            assert inputs.count("long") == 1
    names = [each.name for each in EXPERIMENTS[data]]
    assert len(set(names)) == len(names)

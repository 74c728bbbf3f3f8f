import math
import random

import pytest

from tasks.errors import UsageError
from tasks.sweep.samplers import RandomSearch, TreeParzen, Tried, size_of
from tasks.sweep.space import Choice, LogRange, Range, parse_space

RATE = "training.optimizer.lr=log:1e-4..1e-2"
LAYERS = "model.encoder.num_layers=2,4,6"


def test_choices_and_ranges():
    space = parse_space([LAYERS, "x=0.0..0.3", "y=3..5", RATE, "z=[4,8],[8,16]", "a=FullAttention, LinearAttention"])
    assert space == (
        Choice("model.encoder.num_layers", ("2", "4", "6")),
        Range("x", 0.0, 0.3),
        Range("y", 3, 5),
        LogRange("training.optimizer.lr", 1e-4, 1e-2),
        Choice("z", ("[4,8]", "[8,16]")),
        Choice("a", ("FullAttention", "LinearAttention")),
    )
    assert size_of(space[:1]) == 3
    assert size_of(space[:3]) == math.inf
    assert size_of((space[0], space[2])) == 9


def test_a_range_is_covered_evenly_and_its_ends_are_in_it():
    shares = [number / 3000 for number in range(3000)]
    whole = [Range("y", 3, 5).at(share) for share in shares]
    assert {value: whole.count(value) for value in whole} == pytest.approx({"3": 1000, "4": 1000, "5": 1000}, abs=2)
    decades = [math.log10(float(LogRange("lr", 1e-4, 1e-1).at(share))) for share in shares]
    assert sum(-4 <= decade < -3 for decade in decades) == pytest.approx(1000, abs=2)
    assert sum(-2 <= decade <= -1 for decade in decades) == pytest.approx(1000, abs=2)
    assert (LogRange("n", 1, 1000).at(0.0), LogRange("n", 1, 1000).at(1 - 1e-9)) == ("1", "1000")
    assert LogRange("lr", 0.12344, 0.2).at(0.0) == "0.12344", "rounding never leaves the range"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr", "is not NAME=VALUES"),
        ("lr=", "is not NAME=VALUES"),
        ("=1,2", "is not NAME=VALUES"),
        ("lr=3", "is one value"),
        ("lr=3,3", "is one value"),
        ("lr=3,,4", "has an empty value"),
        ("lr=1..", "1.. is not LOW..HIGH"),
        ("lr=a..b", "a..b is not LOW..HIGH"),
        ("lr=0..inf", "0..inf is not LOW..HIGH"),
        ("lr=log:1,2", "1,2 is not LOW..HIGH"),
        ("lr=0.3..0.1", "0.3 is not less than 0.1"),
        ("lr=log:0..1", "0 has no logarithm"),
        ("seed_everything=1,2", "all trials have the same seed_everything"),
        ("training.monitor=val/loss,val/ece", "all trials have the same training.monitor"),
        ("trainer.logger=true,false", "a sweep sets trainer.logger itself"),
    ],
)
def test_what_cannot_be_understood_gets_one_line(text: str, message: str):
    with pytest.raises(UsageError) as error:
        parse_space([text])
    assert str(error.value).startswith(f"--space {text}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_argument_is_varied_once():
    with pytest.raises(UsageError, match=r"--space training\.optimizer\.lr is there 2 times"):
        parse_space([RATE, "training.optimizer.lr=1,2"])


def test_random_search_is_decided_by_its_seed_and_goes_on_alike():
    space = parse_space([RATE, LAYERS])
    whole = RandomSearch(space, 0)([], 12)
    assert RandomSearch(space, 0)([], 12) == whole
    assert RandomSearch(space, 1)([], 12) != whole
    tried = [Tried(values, None) for values in whole[:5]]
    assert RandomSearch(space, 0)(tried, 7) == whole[5:]


def test_random_search_tries_nothing_twice():
    drawn = RandomSearch(parse_space([LAYERS, "y=1..4"]), 0)([], 12)
    assert len({tuple(values.items()) for values in drawn}) == 12


def objective(values: dict[str, str]) -> float:
    """Least at a learning rate of 1e-3 with 4 layers."""
    return (math.log10(float(values["training.optimizer.lr"])) + 3) ** 2 + abs(int(values["layers"]) - 4)


def search(seed: int, trials: int, *, jobs: int = 1, mode: str = "min", stop: int | None = None) -> list[Tried]:
    space = parse_space([RATE, "layers=2,4,6,8", "width=16..64", "dropout=0.0..0.3"])
    tried: list[Tried] = []
    sampler = TreeParzen(space, seed, mode=mode, jobs=jobs)
    while len(tried) < trials:
        if stop is not None and len(tried) >= stop:  # as after a kill: nothing is remembered but what was tried
            sampler = TreeParzen(space, seed, mode=mode, jobs=jobs)
        sign = 1 if mode == "min" else -1
        tried += [Tried(values, sign * objective(values)) for values in sampler(tried, trials - len(tried))]
    return tried


def test_tpe_learns_from_what_came_of_the_trials_before():
    pytest.importorskip("optuna", reason="optuna is not installed")
    for mode, sign in (("min", 1), ("max", -1)):
        metrics = [sign * each.metric for each in search(0, 30, mode=mode) if each.metric is not None]
        assert len(metrics) == 30
        assert sum(metrics[-10:]) < 0.6 * sum(metrics[:10])


def test_tpe_goes_on_alike_and_knows_that_a_trial_can_fail():
    pytest.importorskip("optuna", reason="optuna is not installed")
    whole = search(3, 14, jobs=2)
    assert search(3, 14, jobs=2, stop=6) == whole
    assert search(4, 14, jobs=2) != whole
    space = parse_space([RATE, LAYERS])
    sampler = TreeParzen(space, 0, mode="min", jobs=3)
    failed = [Tried({"training.optimizer.lr": "0.001", "model.encoder.num_layers": "2"}, None)] * 12
    proposed = sampler(failed, 2)
    assert len(proposed) == 2, "no more than are wanted"
    assert len(sampler(failed, 9)) == 3, "no more than run at once"
    for values in proposed:
        assert 1e-4 <= float(values["training.optimizer.lr"]) <= 1e-2


def test_tpe_tries_nothing_twice():
    pytest.importorskip("optuna", reason="optuna is not installed")
    space, source = parse_space([LAYERS, "y=1..4"]), random.Random(0)
    sampler, tried = TreeParzen(space, 0, mode="min", jobs=1), list[Tried]()
    while len(tried) < 12:
        tried += [Tried(values, source.random()) for values in sampler(tried, 12 - len(tried))]
    assert len({tuple(each.values.items()) for each in tried}) == 12

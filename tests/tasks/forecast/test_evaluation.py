"""Metrics of forecasts: those of plain numpy, of utilsforecast and of sklearn, whatever the batches."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, mean_pinball_loss, mean_squared_error
from utilsforecast import losses

from tasks.forecast.evaluation import ForecastEvaluation
from tests.tasks.forecast.helpers import LEVELS, pick, windows

NAMES = ["a", "b", "c"]


def evaluated(batch, *parts, levels=LEVELS):
    """The evaluation of a batch, taken in at once or in parts."""
    evaluation = ForecastEvaluation(levels)
    for part in parts or [slice(None)]:
        rows = pick(batch, part)
        evaluation.update(rows, rows["point"], rows["quantiles"] if levels else None)
    return evaluation


def by_hand(batch):
    """Each figure by its definition, element by element."""
    values = {name: each.numpy().astype(float) for name, each in batch.items()}
    seen: dict[str, list[float]] = {}
    count, steps, channels = values["future"].shape
    for window in range(count):
        for step in range(steps):
            for channel in range(channels):
                here = (window, step, channel)
                if batch["future_mask"][here]:
                    continue
                true, std = values["future"][here], values["std"][window, channel]
                error = abs(true - values["point"][here])
                scale = values["naive_error"][window, channel]
                found = {"mae": error, "mse": error**2, "mae_original": error * std, "mse_original": (error * std) ** 2}
                if scale > 0:
                    found["mase"] = error / scale
                if not batch["naive_mask"][here]:
                    naive = abs(true - values["naive"][here])
                    found |= {"naive_mae": naive, "naive_mae_original": naive * std, "compared": error * std}
                quantiles = values["quantiles"][here]
                lost = [max(q * (true - f), (q - 1) * (true - f)) for q, f in zip(LEVELS, quantiles, strict=True)]
                found["pinball"] = sum(lost) / len(lost)
                found["coverage_80"] = quantiles[0] <= true <= quantiles[4]
                found["coverage_50"] = quantiles[1] <= true <= quantiles[3]
                for name, value in found.items():
                    seen.setdefault(name, []).append(value)
    figures = {name: float(np.mean(each)) for name, each in seen.items()}
    return figures | {"skill": 1 - figures.pop("compared") / figures["naive_mae_original"]}


def test_every_figure_is_its_definition():
    batch = windows()
    assert evaluated(batch).metrics() == pytest.approx(by_hand(batch), rel=1e-6)
    assert set(evaluated(batch, levels=()).metrics()) == set(by_hand(batch)) - {"pinball", "coverage_80", "coverage_50"}


def test_tables_are_the_figures_of_a_step_and_of_a_channel():
    batch = windows()
    evaluation = evaluated(batch)
    for number, row in enumerate(evaluation.per_step()):
        one = {n: x[:, number : number + 1] if x.ndim > 2 else x for n, x in batch.items()}
        assert row.pop("step") == number + 1
        assert row.pop("values") == int((~one["future_mask"]).sum())
        assert row == pytest.approx(by_hand(one), rel=1e-6)
    for number, row in enumerate(evaluation.per_channel(NAMES)):
        one = {n: x[:, :, [number]] if x.ndim > 2 else x[:, [number]] for n, x in batch.items()}
        assert row.pop("channel") == NAMES[number]
        row.pop("values")
        assert row == pytest.approx(by_hand(one), rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70), st.integers(0, 99), st.sampled_from([1, 7, 32, 70]))
def test_any_size_of_batch_gives_the_same(count, seed, size):
    batch = windows(count, seed=seed)
    whole = evaluated(batch)
    parts = evaluated(batch, *(slice(first, first + size) for first in range(0, count, size)))
    assert parts.metrics() == pytest.approx(whole.metrics(), rel=1e-9)
    for one, other in zip(parts.per_step(), whole.per_step(), strict=True):
        assert one == pytest.approx(other, rel=1e-9, nan_ok=True)


def test_many_small_errors_are_not_lost_beside_a_large_one():
    batch = pick(windows(1, 1, 1), [0] * 100_000)
    batch |= {"future_mask": torch.zeros(100_000, 1, 1, dtype=torch.bool), "future": torch.zeros(100_000, 1, 1)}
    batch["point"] = torch.full((100_000, 1, 1), 1e-3)
    batch["point"][0] = 1e4
    found = evaluated(batch, *(slice(first, first + 1000) for first in range(0, 100_000, 1000))).metrics()["mae"]
    assert found == pytest.approx((1e4 + 99_999 * float(np.float32(1e-3))) / 100_000, rel=1e-12)


def test_the_figures_of_utilsforecast_and_sklearn():
    """One series and channel, nothing missing: a window after another."""
    batch = windows(40, 6, 1)
    full = torch.zeros(40, 6, 1, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    batch |= {"future_mask": full, "naive_mask": full, "std": torch.ones(40, 1)}
    batch |= {name: torch.randn(40, 6, 1, generator=generator) for name in ("future", "naive")}
    train = pd.DataFrame({"unique_id": "x", "ds": range(50), "y": np.random.default_rng(0).normal(size=50)})
    season = 7
    scale = float(train["y"].diff(season).abs().mean())
    batch["naive_error"] = torch.full((40, 1), scale)
    found = evaluated(batch).metrics()
    flat = {name: batch[name].flatten().double().numpy() for name in ("future", "naive", "point")}
    frame = pd.DataFrame({"unique_id": "x", "ds": range(240), "y": flat["future"], "f": flat["point"]})
    quantiles = batch["quantiles"].flatten(0, 2).double().numpy()
    frame["f-lo-80"], frame["f-hi-80"] = quantiles[:, 0], quantiles[:, 4]
    assert found["mae"] == pytest.approx(losses.mae(frame, ["f"])["f"][0], rel=1e-9)
    assert found["mse"] == pytest.approx(losses.mse(frame, ["f"])["f"][0], rel=1e-9)
    assert found["mase"] == pytest.approx(losses.mase(frame, ["f"], season, train)["f"][0], rel=1e-6)
    assert found["coverage_80"] == losses.coverage(frame, ["f"], 80)["f"][0]
    pinball = []
    for level, each in zip(LEVELS, quantiles.T, strict=True):
        frame["q"] = each
        pinball.append(losses.quantile_loss(frame, {"q": "q"}, level)["q"][0])
        assert pinball[-1] == pytest.approx(mean_pinball_loss(flat["future"], each, alpha=level), rel=1e-9)
    assert found["pinball"] == pytest.approx(np.mean(pinball), rel=1e-9)
    assert found["mae"] == pytest.approx(mean_absolute_error(flat["future"], flat["point"]), rel=1e-9)
    assert found["mse"] == pytest.approx(mean_squared_error(flat["future"], flat["point"]), rel=1e-9)
    naive = mean_absolute_error(flat["future"], flat["naive"])
    assert found["skill"] == pytest.approx(1 - found["mae"] / naive, rel=1e-9)


@pytest.mark.parametrize("nothing", [0.0, math.nan])
def test_a_channel_without_naive_error_is_left_out_of_mase_and_named(nothing):
    batch = windows()
    batch["naive_error"][:, 1] = nothing
    evaluation = evaluated(batch)
    assert evaluation.without_scale() == [1]
    assert math.isfinite(evaluation.metrics()["mase"])
    assert evaluation.metrics() == pytest.approx(by_hand(batch), rel=1e-6)
    others = {n: x[:, :, [0, 2]] if x.ndim > 2 else x[:, [0, 2]] for n, x in batch.items()}
    assert evaluation.metrics()["mase"] == pytest.approx(evaluated(others).metrics()["mase"])
    assert math.isnan(evaluation.per_channel(NAMES)[1]["mase"])
    batch["naive_error"][:] = nothing
    assert "mase" not in evaluated(batch).metrics()


def test_nothing_to_measure_is_no_figure():
    assert ForecastEvaluation(LEVELS).metrics() == {}
    assert ForecastEvaluation().per_channel(NAMES) == ForecastEvaluation().per_step() == []
    assert ForecastEvaluation().without_scale() == []
    batch = windows()
    batch["naive_mask"][:] = True
    assert not {"skill", "naive_mae", "naive_mae_original"} & set(evaluated(batch).metrics())
    batch["future_mask"][:] = True
    assert evaluated(batch).metrics() == {}
    batch = windows()
    batch["naive"] = batch["future"]
    assert "skill" not in evaluated(batch).metrics(), "against a naive forecast without error"


def test_a_forecast_that_is_not_finite_is_seen():
    batch = windows()
    batch["point"][0, 0] = math.nan
    assert math.isnan(evaluated(batch).metrics()["mae"])


def test_the_parts_of_processes_make_the_whole(monkeypatch):
    batch = windows()
    mine, theirs, idle = evaluated(batch, slice(0, 20)), evaluated(batch, slice(20, None)), ForecastEvaluation(LEVELS)

    def all_gather(parts, own):
        parts[:] = [own, (theirs._sums, theirs._counts), (idle._sums, idle._counts)]

    assert mine.gather().metrics() == mine.metrics()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    monkeypatch.setattr(torch.distributed, "all_gather_object", all_gather)
    gathered = mine.gather()
    mine.reset()
    assert gathered.metrics() == pytest.approx(evaluated(batch).metrics(), rel=1e-9)
    assert mine.metrics() == {}


def test_figures_are_plain_numbers():
    evaluation = evaluated(windows())
    assert json.loads(json.dumps(evaluation.metrics())) == evaluation.metrics()
    json.dumps([*evaluation.per_step(), *evaluation.per_channel(NAMES)])


@pytest.mark.parametrize("levels", [[0.0, 0.5], [0.5, 0.1], [0.5, 0.5], [1.0]])
def test_levels_are_checked(levels):
    with pytest.raises(ValueError, match="levels="):
        ForecastEvaluation(levels)


def test_quantiles_must_be_those_of_the_levels():
    batch = windows()
    for evaluation, quantiles in [(ForecastEvaluation(), batch["quantiles"]), (ForecastEvaluation([0.5]), None)]:
        with pytest.raises(ValueError, match="levels="):
            evaluation.update(batch, batch["point"], quantiles)
    with pytest.raises(ValueError, match="zip"):
        evaluated(batch).per_channel(["a"])


def test_intervals_are_pairs_of_levels_around_the_middle():
    assert ForecastEvaluation([0.025, 0.1, 0.4, 0.9, 0.975]).intervals == {"coverage_95": (0, 4), "coverage_80": (1, 3)}
    assert ForecastEvaluation([0.0005, 0.9995]).intervals == {"coverage_99.9": (0, 1)}

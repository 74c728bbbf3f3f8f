import csv
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tasks.benchmark.__main__ import main
from tasks.benchmark.measure import Case, Product, floor_of, interleave, peak_memory, quartiles
from tasks.benchmark.speed.cases import CASES
from tasks.benchmark.speed.detection import Detector
from tasks.benchmark.speed.run import notes, summarise
from tasks.benchmark.speed.speech import SAMPLE_RATE, Epoch, Recogniser, Sizes, collate
from tasks.benchmark.speed.speech_cases import bucketed, log_normal, padded_recordings, recordings, shuffled, uniform
from tasks.benchmark.speed.speech_peers import PaddedRecogniser, PublishedConformer
from tasks.detr.pretrained import load_pretrained
from tasks.memory import keep_freed_memory

SLOW = ("decoding1", "decoding8", "epoch", "epoch_uniform", "whisper")
"""With the counter they take up to a minute; their small cases have the same products."""
BLOCKS = ("longformer", "test_longformer")
"""Both sides compute whole blocks, which have more pairs than the window: the floor is less than either computes."""
ALL_CASES = [case for cases in CASES.values() for case in cases() if case.name not in SLOW + BLOCKS]

TINY = CASES["vit"]()[-1]


def test_the_command_writes_its_results(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    flags = ["--size", TINY.name, "--processes", "1", "--rounds", "1", "--seconds", "0", "--output", str(tmp_path)]
    code = main(["speed", "--task", "vit", *flags])
    out, err = capfd.readouterr()
    assert (code, err) == (0, "")
    folder = Path(out.splitlines()[-1].removeprefix("run: "))
    assert folder.parent == tmp_path / "benchmark"

    report = json.loads((folder / "speed.json").read_text())
    assert report["schema"] == 1
    assert {"date", "commit", "machine", "freed_memory_kept", "rows"} <= report.keys()
    assert {"cpu", "cores", "threads", "torch", "timm", "transformers"} <= report["machine"].keys()
    assert [(row["size"], row["mode"]) for row in report["rows"]] == [("test", "train"), ("test", "inference")]
    for row in report["rows"]:
        times = {name: values["median"] for name, values in row["milliseconds"].items()}
        assert row["ratio"]["median"] == pytest.approx(times["peer"] / times["ours"])
        assert row["over_floor"]["ours"]["median"] == pytest.approx(times["ours"] / times["floor"])
        assert row["peak_mib"]["ours"] > 0
        assert row["square_gflops"]["median"] > 0

    lines = list(csv.DictReader((folder / "speed.csv").open()))
    assert [line["mode"] for line in lines] == ["train", "inference"]
    assert float(lines[0]["ours_ms"]) == pytest.approx(report["rows"][0]["rounds_ms"][0]["ours"][0], abs=1e-3)
    assert "| test | train |" in (folder / "speed.md").read_text()


@pytest.mark.parametrize(
    ("args", "word"),
    [
        ([], "COMMAND"),
        (["spede"], "spede"),
        (["speed"], "--task"),
        (["speed", "--task", "vti"], "vti"),
        (["speed", "--task", "vit", "--size", "big"], "big"),
        (["speed", "--task", "vit", "--rounds", "0"], "--rounds"),
        (["speed", "--task", "vit", "--processes", "many"], "--processes"),
        (["speed", "--task", "vit", "--seconds", "nan"], "--seconds"),
        (["speed", "--task", "vit", "--speed"], "--speed"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(args: list[str], word: str, capsys: pytest.CaptureFixture[str]):
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert word in err


def test_help_does_not_wait_for_torch():
    code = "import sys, tasks.benchmark.__main__ as m; m.parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    with pytest.raises(SystemExit) as stop:
        main(["speed", "--help"])
    assert stop.value.code == 0


@pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: case.name)
def test_the_floor_has_the_products_of_the_networks(case: Case):
    inputs, _ = case.batch()
    computed = (case.ours_products or case.products, case.peer_products or case.products)
    for make, products in zip((case.ours, case.peer), computed, strict=True):
        network = make().eval().requires_grad_(False)
        # The counter knows no fused attention on the CPU; this backend is made of plain products.
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            network(*inputs)
        assert counter.get_total_flops() == sum(product.flops("inference") for product in products)


@pytest.mark.parametrize("mode", ["train", "inference"])
def test_the_floor_computes_its_products(mode: str):
    with FlopCounterMode(display=False) as counter:
        floor_of(mode, TINY.products)()
    assert counter.get_total_flops() == sum(product.flops(mode) for product in TINY.products)


def test_longformer_is_the_same_function_as_its_peer_and_computes_more_than_the_floor():
    (case,) = [case for case in CASES["core"]() if case.name == "test_longformer"]
    ours, peer = case.ours().eval(), case.peer().eval()
    for parameter in peer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    theirs = peer.model.state_dict()
    mine = {
        "embedding.weight": theirs["embeddings.word_embeddings.weight"],
        "position.weight": theirs["embeddings.position_embeddings.weight"][2:],
    }
    mine |= {f"norm.{part}": theirs[f"embeddings.LayerNorm.{part}"] for part in ("weight", "bias")}
    # The type of every token is 0.
    mine["embedding.weight"] = mine["embedding.weight"] + theirs["embeddings.token_type_embeddings.weight"][0]
    names = {
        "attention.out_proj": "attention.output.dense",
        "attention_residual.norm": "attention.output.LayerNorm",
        "feedforward.linear1": "intermediate.dense",
        "feedforward.linear2": "output.dense",
        "feedforward_residual.norm": "output.LayerNorm",
    }
    projections = [f"attention.self.{name}" for name in ("query", "key", "value")]
    for part in ("weight", "bias"):
        for own, published in names.items():
            mine[f"encoder.layers.0.{own}.{part}"] = theirs[f"encoder.layer.0.{published}.{part}"]
        together = [theirs[f"encoder.layer.0.{name}.{part}"] for name in projections]
        mine[f"encoder.layers.0.attention.in_proj.{part}"] = torch.cat(together)
    ours.load_state_dict(mine)
    inputs, _ = case.batch()
    torch.testing.assert_close(ours(*inputs), peer(*inputs), atol=1e-4, rtol=1e-4)
    floor = sum(product.flops("inference") for product in case.products)
    for network in (ours, peer):
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            network.requires_grad_(False)(*inputs)
        assert counter.get_total_flops() >= floor


def test_flops_by_hand():
    assert Product(2, 3, 5, batch=7, repeat=11).flops("inference") == 2 * 2 * 3 * 5 * 7 * 11
    assert Product(2, 3, 5).flops("train") == 3 * 60
    assert Product(2, 3, 5, input_grad=False).flops("train") == 2 * 60
    assert Product(2, 3, 5, input_grad=False, weight_grad=False).flops("train") == 60


def report_of(row: dict[str, Any]) -> dict[str, Any]:
    machine = {"threads": 1, "cpu": "a", "cores": 1, "torch": "2", "timm": "1", "transformers": "5", "torchaudio": "2"}
    counts = {"freed_memory_kept": True, "processes": 1, "rounds": 3}
    return {"rows": [row], "machine": machine, "commit": None, "date": "today"} | counts


def test_ratios_are_taken_inside_the_rounds():
    results = [
        {
            "times_ms": {"ours": [10.0, 20.0, 40.0], "peer": [20.0, 10.0, 20.0], "floor": [5.0, 5.0, 10.0]},
            "peak_mib": {"ours": 3.0, "peer": 2.0},
            "square_gflops": [100.0, 100.0, 100.0],
        }
    ]
    row = summarise(TINY, "train", results)
    assert row["ratio"] == {"first_quartile": 0.5, "median": 0.5, "third_quartile": 1.25}
    assert row["over_floor"]["ours"]["median"] == 4.0
    assert row["milliseconds"]["ours"]["median"] == 20.0
    said = notes(report_of(row))
    assert said[0] == "timm is faster at test train: 2.000x ours"
    assert said[1].startswith("timm needs less memory at test train: 2.0 MiB")


@pytest.mark.parametrize("case", [case for case in CASES["detr"]() if not case.listed], ids=lambda case: case.peer_name)
def test_detr_and_its_peer_compute_the_same(case: Case, tmp_path: Path):
    """Logits, boxes, loss and gradients. transformers' norms twice between layers: norms stay as they start."""
    torch.manual_seed(0)
    peer, ours = case.peer(), case.ours()
    assert isinstance(ours, Detector)
    with torch.no_grad():
        for name, parameter in peer.named_parameters():
            if parameter.ndim > 1 and "backbone" not in name:
                parameter.add_(0.5 * torch.randn_like(parameter))
    state = {published_name(name): value for name, value in peer.state_dict().items()}
    torch.save(state, tmp_path / "peer.pth")
    load_pretrained(ours.detr, str(tmp_path / "peer.pth"))
    inputs, _ = case.batch()
    with torch.no_grad():
        answers = ours.eval()(*inputs)
        torch.testing.assert_close(answers, peer.eval()(*inputs), rtol=0, atol=1e-4)
    assert answers[0].std(1).max() > 0.01  # the queries answer otherwise than each other
    losses = [network.train()(*inputs) for network in (ours, peer)]
    torch.testing.assert_close(*losses, rtol=0, atol=1e-4)
    norms = []
    for network, loss in zip((ours, peer), losses, strict=True):
        loss.backward()
        trained = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
        assert not [name for name in trained if "layer1" in name]
        norms.append(torch.nn.utils.get_total_norm(trained.values()))
    torch.testing.assert_close(*norms, rtol=1e-3, atol=0)


@pytest.mark.parametrize("network", [Recogniser, PaddedRecogniser, PublishedConformer])
def test_an_epoch_sums_the_gradients_of_its_batches(network: Callable[[Sizes], torch.nn.Module]):
    """Dropout is off, and so are the statistics of the Conformer's batch norms."""
    samples = [4000, 9000, 1000, 16000, 7000]
    (audio, tokens), _ = recordings(samples, 5)
    torch.manual_seed(0)
    epoch = Epoch(network(Sizes(5, 16, 2, 2, 24, dropout=0.0)), [[3, 1], [0, 4], [2]]).train()
    for module in epoch.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.eval()
    epoch(audio, tokens).backward()
    summed = [parameter.grad.clone() for parameter in epoch.parameters() if parameter.grad is not None]
    epoch.zero_grad()
    batches = [collate([audio[each] for each in batch], [tokens[each] for each in batch]) for batch in epoch.batches]
    torch.stack([epoch.network(*batch) for batch in batches]).sum().backward()
    for one, other in zip(summed, [each.grad for each in epoch.parameters() if each.grad is not None], strict=True):
        torch.testing.assert_close(one, other)


def test_padded_recognition_is_ours():
    """Loss and gradients: the peer of an epoch computes more, and nothing else."""
    samples = [4000, 9000, 1000, 16000]
    batch, _ = padded_recordings(samples, 5)
    sizes = Sizes(5, 16, 2, 2, 24, dropout=0.0)
    ours, peer = Recogniser(sizes), PaddedRecogniser(sizes)
    peer.load_state_dict(ours.state_dict())
    losses = [network(*batch) for network in (ours, peer)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    for one, other in zip(ours.parameters(), peer.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lengths", [log_normal, uniform])
def test_an_epoch_has_every_utterance_once_on_both_sides(lengths: Callable[[int], list[float]]):
    seconds = lengths(64)
    assert 0.3 <= min(seconds) < 1 < 10 < max(seconds) <= 15
    ours = bucketed([round(SAMPLE_RATE * each) for each in seconds])
    for batches in (ours, shuffled(64, 16)):
        assert sorted(number for batch in batches for number in batch) == list(range(64))
        assert len(batches) > 1


def published_name(name: str) -> str:
    """As a checkpoint has it: transformers' own names stand under `model`, those by hand lack a part."""
    name = name.removeprefix("model.").replace("backbone.body.", "backbone.0.body.")
    return f"transformer.{name}" if re.match(r"(en|de)coder\.", name) else name


def test_the_share_of_matching_is_told():
    times = {"ours": [10.0], "peer": [20.0], "floor": [5.0], "matching": [0.5]}
    results = [{"times_ms": times, "peak_mib": {"ours": 1.0, "peer": 2.0}, "square_gflops": [100.0]}]
    row = summarise(CASES["detr"]()[-1], "train", results)
    assert row["share"]["matching"]["median"] == 0.05
    assert "matching takes 5.0% of our step at test_by_hand train" in notes(report_of(row))


def test_quartiles():
    assert quartiles([5.0, 1.0, 3.0, 2.0, 4.0]) == (2.0, 3.0, 4.0)
    assert quartiles([7.0]) == (7.0, 7.0, 7.0)


def test_contenders_take_turns_in_alternating_order():
    calls: list[str] = []
    times = interleave({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3, seconds=0.0)
    assert "".join(calls) == "aaabbb" + "ab" + "ba" + "ab"
    assert [len(values) for values in times.values()] == [3, 3]


def test_a_round_lasts_as_long_as_asked():
    calls: list[int] = []

    def call() -> None:
        calls.append(1)
        time.sleep(0.002)

    interleave({"a": call}, rounds=1, seconds=0.02)
    assert 3 + 2 <= len(calls) <= 3 + 10


def test_peak_memory_of_a_known_step():
    def make():
        kept = torch.zeros(2**18)  # 1 MiB

        def step() -> None:
            once = kept + 1
            once.add_((once + 1).sum())  # two more at a time

        return step

    assert peak_memory(make) == pytest.approx(3.0, abs=0.01)
    assert peak_memory(make) == pytest.approx(3.0, abs=0.01)


def test_keep_freed_memory_answers_on_every_system(monkeypatch: pytest.MonkeyPatch):
    assert isinstance(keep_freed_memory(), bool)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False

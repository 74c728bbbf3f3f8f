"""Exports of small runs of every task: what is written computes the same, and says where it comes from."""

import json
import shutil

import pytest
import torch
import yaml

from tasks.catalogue import TASKS
from tasks.checkpoint import load
from tasks.export import outputs_of, without_places
from tasks.machine import commit
from tests.tasks.conftest import best


@pytest.mark.parametrize("task", TASKS)
def test_what_is_exported_stands_in_for_the_checkpoint(task, runs, call, tmp_path, monkeypatch):
    folder = tmp_path / "given away"
    ended = call(task, "export", best(runs[task]), "--output", folder)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1] == f"export: {folder}"
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "config.yaml", "README.md"}
    module_class = TASKS[task].module_class
    here, there = load(runs[task] / "checkpoints/best.ckpt", module_class), load(folder, module_class)
    assert json.loads(json.dumps(here.facts)) == there.facts
    assert (
        json.loads(json.dumps(without_places(here.config)))
        == there.config
        == yaml.safe_load((folder / "config.yaml").read_text())
    )
    assert here.state_dict().keys() == there.state_dict().keys()
    assert all(torch.equal(tensor, there.state_dict()[name]) for name, tensor in here.state_dict().items())
    inputs = here.for_export().inputs
    with torch.no_grad():
        pairs = zip(*(outputs_of(each.for_export().network, inputs) for each in (here, there)), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


@pytest.mark.parametrize("task", TASKS)
def test_the_card_says_what_the_run_has_measured_and_how_it_was_made(task, runs, call, tmp_path):
    assert call(task, "export", best(runs[task]), "--output", tmp_path).code == 0
    card = (tmp_path / "README.md").read_text()
    for name, value in json.loads((runs[task] / "metrics.json").read_text()).items():
        assert f"| {name} | {value:.6g} |" in card
    assert f"- command: `python -m tasks.{task} fit " in card
    assert "--runs=FOLDER" in card
    assert not [file.name for file in tmp_path.iterdir() if str(runs[task].parents[2]).encode() in file.read_bytes()]
    assert commit() is None or f"- commit: {commit()}" in card
    parameters = sum(each.numel() for each in load(tmp_path, TASKS[task].module_class).network.parameters())
    assert f"- network: {parameters:,} parameters (" in card


def test_it_is_tested_and_predicts_from_the_folder(runs, call, tmp_path):
    assert call("vit", "export", best(runs["vit"]), "--output", tmp_path / "net").code == 0
    few = ["--trainer.accelerator=cpu", "--trainer.limit_test_batches=2", "--trainer.logger=false"]
    tested = [
        call("vit", "test", "--ckpt_path", each, *few, "--runs", tmp_path / "runs").metrics
        for each in (runs["vit"] / "checkpoints/best.ckpt", tmp_path / "net")
    ]
    assert tested[0] == tested[1]
    refused = call("vit", "fit", "--ckpt_path", tmp_path / "net")
    assert refused.code == 2
    assert "holds weights alone, no training that could go on" in refused.one_line
    other = call("detr", "test", "--ckpt_path", tmp_path / "net")
    assert other.code == 1
    assert "is a checkpoint of 'vit': use python -m tasks.vit" in other.one_line


def test_an_earlier_export_is_kept_and_a_damaged_one_is_refused(runs, call, tmp_path):
    for _ in range(2):
        assert call("forecast", "export", best(runs["forecast"]), "--output", tmp_path).code == 0
    assert len(list(tmp_path.glob("model_*.safetensors"))) == len(list(tmp_path.glob("README_*.md"))) == 1
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    ended = call("forecast", "predict", "--ckpt_path", tmp_path, "--input", "x", "--output", tmp_path / "out")
    assert ended.code == 1
    assert "is no readable checkpoint" in ended.one_line
    shutil.copy(runs["vit"] / "config.yaml", weights)
    assert call("forecast", "export", "--ckpt_path", weights, "--output", tmp_path / "out").code == 1


def test_weights_of_others_are_told_from_ours(call, tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    ended = call("vit", "test", "--ckpt_path", tmp_path)
    assert ended.code == 1
    assert "was not written by onecore" in ended.one_line


def test_a_folder_that_cannot_be_written_to(runs, call, tmp_path):
    (tmp_path / "file").write_text("mine")
    ended = call("vit", "export", best(runs["vit"]), "--output", tmp_path / "file" / "net")
    assert ended.code == 1
    assert str(tmp_path / "file") in ended.one_line
    assert (tmp_path / "file").read_text() == "mine"


def test_a_network_that_onnx_cannot_have_is_told(runs, call, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no function for aten.x\nand a long trace")

    monkeypatch.setattr("tasks.export.torch.onnx.export", fail)
    ended = call("vit", "export", best(runs["vit"]), "--output", tmp_path, "--onnx=true")
    assert ended.code == 1
    assert ended.one_line.endswith("this network cannot be written as ONNX (no function for aten.x)")


def test_onnx_without_its_packages_is_told(runs, call, tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.export.importlib.util.find_spec", lambda _: None)
    ended = call("vit", "export", best(runs["vit"]), "--output", tmp_path, "--onnx=true")
    assert ended.code == 1
    assert "pip install -e '.[onnx]'" in ended.one_line
    assert not list(tmp_path.iterdir())


def test_a_graph_that_differs_is_refused(trained, call, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    monkeypatch.setattr("tasks.export._TOLERANCE", 0.0)
    ended = call("vit", "export", best(trained), "--output", tmp_path, "--onnx=true")
    assert ended.code == 1
    assert "differs from the network by" in ended.one_line

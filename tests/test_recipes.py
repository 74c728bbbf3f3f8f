"""The recipes are true: their files are made in a copy of the repository, and their commands are run there."""

import ast
import csv
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from datamodules.mnist import read_digits
from tests import test_house

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/recipes.md").read_text()
BLOCK = re.compile(
    r"^`([\w/.]+)`(?:,[^\n]*? `(\w+)`[^\n]*)?:\n\n```(?:python|yaml)\n(.*?)^```", re.MULTILINE | re.DOTALL
)
COMMANDS = "".join(re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)).splitlines()
SMALL = [
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=5",
    "--trainer.limit_val_batches=2",
    "--trainer.limit_test_batches=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.logger=false",
    "--model.encoder.num_layers=2",
]
RUN_ALL = """
import gc, json, os, runpy, sys
from pathlib import Path
import datamodules, tasks.dispatch

sys.path[0] = os.getcwd()  # as `python -m` has it: not wherever a file of configuration is
gc.freeze()

for number, (module, *args) in enumerate(json.load(sys.stdin)):
    if not (child := os.fork()):
        for stream, name in [(1, "out"), (2, "err")]:
            os.dup2(os.open(f"{number}.{name}", os.O_WRONLY | os.O_CREAT), stream)
        sys.argv = [module, *args]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        sys.exit()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    Path(f"{number}.code").write_text(str(code))
    if "fit" in args and code == 0:  # the run that the commands after it mean
        link = Path("runs", module.removeprefix("tasks."), "RUN")
        link.unlink(missing_ok=True)
        link.symlink_to(Path(Path(f"{number}.out").read_text().split()[-1]).absolute())
"""
"""Runs commands one after the other as `python -m` does, but imports what they share only once."""

EXPLAIN = "python -m tasks.rows explain --ckpt_path runs/rows/RUN/checkpoints/best.ckpt --input FOLDER --output none"
"""What the page says that the task has not."""


class Outcome(NamedTuple):
    """What a user sees of a command."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def run(self) -> Path:
        """The run's folder, from the last line printed."""
        return Path(self.folder, self.out.split()[-1])


def add_to(file: Path, table: str, block: str) -> None:
    """Adds a block's imports to those of a file, and the rest at the end of a table."""
    imports = "".join(re.findall(r"^from .*\n", block, re.MULTILINE))
    lines, tree = file.read_text().splitlines(keepends=True), ast.parse(file.read_text())
    targets = [(node, getattr(node, "targets", [getattr(node, "target", None)])) for node in tree.body]
    (last,) = (node.end_lineno for node, names in targets if getattr(names[0], "id", "") == table)
    first = next(node.lineno for node in tree.body if isinstance(node, ast.ImportFrom))
    assert last is not None
    lines.insert(last - 1, block.replace(imports, "").lstrip("\n"))
    lines.insert(first - 1, imports)
    file.write_text("".join(lines))


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A copy of the repository after the recipes, and a folder of pictures to predict."""
    tree = tmp_path_factory.mktemp("recipes")
    for room in ("core", "tasks", "datamodules", "configs", "tests"):
        shutil.copytree(ROOT / room, tree / room, ignore=shutil.ignore_patterns("__pycache__"))
    blocks = BLOCK.findall(PAGE)
    assert len(blocks) == len(re.findall(r"^```(?:python|yaml)", PAGE, re.MULTILINE))
    for name, table, block in blocks:
        path = tree / name
        if table:
            add_to(path, table, block)
            continue
        path.parent.mkdir(exist_ok=True)
        assert not path.exists(), f"{name} is there already"
        path.write_text(block)
    for name in re.findall(r"an empty `([\w/.]+)`", PAGE):
        (tree / name).touch()
    shutil.copyfile(ROOT / "pyproject.toml", tree / "pyproject.toml")
    shutil.copyfile(tree / "cosine.py", tree / "core/attention/cosine.py")
    (tree / "FOLDER").mkdir()
    for number, digit in enumerate(read_digits().images[::1000, 0]):
        Image.fromarray(digit.numpy()).save(tree / f"FOLDER/{number}.png")
    return tree


@pytest.fixture(scope="module")
def outcomes(tree) -> dict[str, Outcome]:
    """Of each command what it printed, in the page's order; `fit` trains little."""
    commands = [*COMMANDS, EXPLAIN]
    given = [command.removeprefix("python -m ").split() for command in commands]
    small = json.dumps([[*words, *(SMALL if "fit" in words else ())] for words in given])
    subprocess.run([sys.executable, "-c", RUN_ALL], input=small, cwd=tree, text=True, check=True)
    done = [
        [(tree / f"{number}.{name}").read_text() for name in ("code", "out", "err")] for number in range(len(given))
    ]
    return {
        command: Outcome(int(code), out, err, tree) for command, (code, out, err) in zip(commands, done, strict=True)
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_command(outcomes, command):
    assert outcomes[command].code == 0, outcomes[command]


def test_attention_keeps_the_contract(outcomes):
    (command,) = (command for command in COMMANDS if " pytest " in command)
    passed = re.search(r"(\d+) passed", outcomes[command].out)
    assert passed is not None
    assert int(passed[1]) >= 10, "as many properties as each row of the table has"


@pytest.mark.parametrize(("name", "scale"), [("cosine.CosineAttention", 5.0), ("=CosineAttention", 10.0)])
def test_attention_learns_its_own_parameter(outcomes, name, scale):
    (command,) = (command for command in COMMANDS if f"attention={name.lstrip('=')}" in command)
    weights = torch.load(outcomes[command].run / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    learnt = [float(each) for key, each in weights.items() if key.endswith("attention.scale")]
    assert len(learnt) == 2, "one a layer"
    assert all(each != scale and abs(each - scale) < 1 for each in learnt)


def test_attention_is_explained(outcomes, tree):
    assert len(list((tree / "explained/attention").glob("*.png"))) == len(list((tree / "FOLDER").iterdir()))


def test_data_set_has_every_digit_once(tree):
    spec = importlib.util.spec_from_file_location("small_digits", tree / "datamodules/small_digits.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data = module.SmallDigits()
    parts = [data.pictures(split) for split in ("train", "val", "test")]
    pixels, labels = load_digits(return_X_y=True)
    assert torch.cat([part.labels for part in parts]).bincount().tolist() == np.bincount(labels).tolist()
    ours = torch.cat([part.images for part in parts]).flatten(1).double() / 255 * 16
    assert (ours.sort(0).values - torch.from_numpy(pixels).sort(0).values).abs().max() < 16 / 255
    assert data.image_size == (8, 8)


def test_data_set_sets_the_network(outcomes):
    (command,) = (command for command in COMMANDS if "small_digits.yaml" in command)
    config = yaml.safe_load((outcomes[command].run / "config.yaml").read_text())
    assert config["model"]["image_size"] == [8, 8]
    assert config["model"]["num_classes"] == 10
    assert config["data"]["class_path"] == "datamodules.SmallDigits"


def test_task_is_helped_trained_and_predicts(outcomes, tree):
    told = outcomes["python -m tasks.rows --help"].out
    assert told.startswith("usage: python -m tasks.rows COMMAND")
    assert "Classifies pictures that are read row by row." in told
    for command in COMMANDS:
        if "tasks.rows fit" in command or "tasks.rows test" in command:
            assert 0 <= json.loads((outcomes[command].run / "metrics.json").read_text())["test/accuracy"] <= 1
    with (tree / "predictions/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["file"]).name for row in rows] == sorted(path.name for path in (tree / "FOLDER").iterdir())
    assert {row["label"] for row in rows} <= set("0123456789")


def test_task_without_explanations_says_so_in_one_line(outcomes):
    assert outcomes[EXPLAIN].code == 1
    assert outcomes[EXPLAIN].err.strip().splitlines()[-1] == "error: rows has nothing to explain"


def test_page_names_files_that_are_there(tree):
    for name in re.findall(r"`((?:core|tasks|datamodules|configs|tests)/[\w./]+)`", PAGE):
        assert name == "tests/tasks/rows/" or (tree / name).exists(), name


def test_files_keep_the_rules_of_the_house(tree, monkeypatch):
    monkeypatch.setattr(test_house, "ROOT", tree)
    for path in [tree / name for name, table, _ in BLOCK.findall(PAGE) if name.endswith(".py") and "/" in name]:
        test_house.test_import_directions(path)
        test_house.test_no_print(path)
        if path.parent.name == "rows":
            test_house.test_tasks_do_not_know_each_other(path)
        if not path.is_relative_to(tree / "core") and not path.is_relative_to(tree / "tests"):
            test_house.test_no_attention_outside_the_core(path)

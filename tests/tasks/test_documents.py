"""The README, the documents and the configs are true: every command that they show is run."""

import json
import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from datamodules import CIFAR10
from tasks.benchmark import arguments as benchmark
from tasks.demo import arguments as demo
from tasks.launch import launch
from tasks.trainings import _Children
from tests.datamodules.speech.sets import noise, write, write_manifest, write_tokenizer
from tests.datamodules.test_cifar import fake
from tests.tasks.asr.whisper import openai_names, reference
from tests.tasks.conftest import SMALL, SMALL_ASR, SMALL_DETR, SMALL_FORECAST, SMALL_WHISPER
from tests.tasks.trainings import training_here

ROOT = Path(__file__).parents[2]
SOURCES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "configs").rglob("*.yaml"),
]
RECIPES = ROOT / "docs/recipes.md"
"""Its files and commands are those of tests/test_recipes.py."""
NAMED_FILE = re.compile(r"`((?:core|tasks|datamodules|configs|tests|docs)/[\w./]+\.\w+)`")
ONE = ["--trainer.max_epochs=1", *(f"--trainer.limit_{part}_batches=1" for part in ("train", "val", "test"))]
"""A step of training: what a command of `fit` says is tried, not what it learns."""


def commands_of(source: Path) -> set[str]:
    text = source.read_text().replace("\\\n#", "\\\n")
    return {
        " ".join(command.replace("\\\n", " ").split())
        for command in re.findall(r"python -m (tasks\.(?:\\\n|[^`\n#])+)", text)
        if "|" not in command and "NAME" not in command and "COMMAND" not in command
    }


FIRST = commands_of(ROOT / "README.md")
COMMANDS = sorted(set[str]().union(*(commands_of(source) for source in SOURCES if source != RECIPES)))


def is_slow(command: str) -> bool:
    """Trainings that the README does not show; CI runs them."""
    return command not in FIRST and command.split()[1:2] in (["fit"], ["sweep"])


def first_block() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0].strip().splitlines()


def test_first_block_holds_two_commands_that_make_their_environment():
    install = "python3 -m venv .venv && .venv/bin/pip install -q -e {} && .venv/bin/python -m {}"
    assert first_block() == [install.format(".", "tasks.vit fit"), install.format("'.[test]'", "pytest")]
    assert "awk" in (ROOT / ".ci/run").read_text(), "CI runs the README's own test command"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, trained, detr_trained, asr_trained, forecast_trained, sentences) -> Path:
    """A folder in which the documents' paths exist."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("workplace")
    (folder / "configs").symlink_to(ROOT / "configs")
    runs = {"vit": trained, "detr": detr_trained, "asr": asr_trained, "forecast": forecast_trained}
    for task, run in runs.items():
        (folder / "runs" / task).mkdir(parents=True)
        (folder / "runs" / task / "RUN").symlink_to(run)
    (folder / "runs" / "sweep" / "RUN").mkdir(parents=True)
    shutil.copyfile(trained / "config.yaml", folder / "runs" / "sweep" / "RUN" / "best.yaml")
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("vit_tiny_patch16_224").state_dict(), folder / "WEIGHTS.safetensors")
    for split in ("train", "test"):
        for number in range(20):
            path = folder / "FOLDER" / split / f"class{number % 2}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (number, 100, 200)).save(path)
    write_voc(folder / "BOXES")
    (folder / "PICTURE").symlink_to(folder / "BOXES/JPEGImages/0.jpg")
    speech = {part: [(0.5, "One, two."), (0.7, "three")] for part in ("train", "val")}
    for part in speech:
        lines = (write_manifest(folder / "SPEECH", speech) / f"{part}.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        table = [f'"{row["audio"]}","{row["text"]}"\n' for row in rows]
        (folder / f"SPEECH/{part}.csv").write_text("audio,text\n" + "".join(table))
    write_whisper(folder)
    write_series(folder)
    for digit in range(10):
        for index in (0, 5, 10):
            write(folder / f"DIGITS/recordings/{digit}_someone_{index}.wav", noise(0.5, seed=digit))
    return folder


def write_whisper(folder: Path) -> None:
    """A small Whisper under openai's names, and its tokenizer."""
    import torch

    vocabulary = write_tokenizer(folder / "TOKENIZER").get_vocab_size()
    small = reference(16, 1, 2, vocab_size=vocabulary, pad_token_id=0)
    torch.save({"model_state_dict": openai_names(small.state_dict())}, folder / "WHISPER.pt")


def write_series(folder: Path) -> None:
    """A file as ETTh1's, and a month of demand under the names of the embedded data."""
    times = np.arange("2016-07-01", "2018-06-26", dtype="datetime64[h]")[:17_420].astype(str)
    values = np.random.default_rng(0).normal(size=(len(times), 7)).round(3)
    lines = [
        f"{time.replace('T', ' ')}:00:00," + ",".join(map(str, row)) for time, row in zip(times, values, strict=True)
    ]
    (folder / "SERIES/ETT-small").mkdir(parents=True)
    (folder / "SERIES/ETT-small/ETTh1.csv").write_text("\n".join(["date,HUFL,HULL,MUFL,MULL,LUFL,LULL,OT", *lines]))
    times = np.arange("2024-03-01", "2024-04-01", np.timedelta64(30, "m"), dtype="datetime64[m]").astype(str)
    rows = [f"{time},{30_000 + number % 48}" for number, time in enumerate(times)]
    (folder / "FILE.csv").write_text("\n".join(["time,demand", *rows]))


def write_voc(folder: Path) -> None:
    """Ten pictures with a box each in each part, in the layout of Pascal VOC."""
    from PIL import Image

    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for number in range(30):
        Image.new("RGB", (64, 48), (number, 100, 200)).save(folder / f"JPEGImages/{number}.jpg")
        (folder / f"Annotations/{number}.xml").write_text(
            f"<annotation><filename>{number}.jpg</filename><size><width>64</width><height>48</height><depth>3</depth>"
            f"</size><object><name>cell</name><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>{20 + number}</xmax>"
            "<ymax>30</ymax></bndbox></object></annotation>"
        )
    for part, numbers in {"train": range(10), "val": range(10, 20), "test": range(20, 30)}.items():
        (folder / f"ImageSets/Main/{part}.txt").write_text("".join(f"{number}\n" for number in numbers))


def run_detr(args: list[str], scenes: Path, monkeypatch) -> int:
    monkeypatch.setenv("ONECORE_DATA", str(scenes))
    small = {"fit": [*SMALL_DETR, *ONE], "check-data": []}.get(args[0], ["--trainer.logger=false"])
    source = "BOXES" if args[0] in ("fit", "check-data") else "PICTURE"  # one is drawn fast
    return launch("detr", [arg.replace("FOLDER", source) for arg in args] + small)


def run_sweep(args: list[str], folder: Path, monkeypatch, capsys) -> None:
    """One trial, in this process."""
    if "--resume" in args:
        return  # tests/tasks/sweep/test_sweep.py
    if "tpe" in args:
        pytest.importorskip("optuna", reason="optuna is not installed (extra sweep)")
    monkeypatch.setattr(_Children, "run", training_here([]))
    few = ["1" if earlier == "--trials" else arg for earlier, arg in pairwise(["", *args])]
    assert launch("vit", [*few, *SMALL, f"--runs={folder}"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [pytest.param(each, marks=pytest.mark.slow if is_slow(each) else ()) for each in COMMANDS]
)
def test_command(command, workplace, scenes, sentences, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    module, *args = shlex.split(command.replace("=WEIGHTS", "=WEIGHTS.safetensors"))
    if any("detr_r50_coco" in arg for arg in args):
        return  # tests/tasks/detr/test_coco_experiment.py
    if module == "tasks.detr":
        assert run_detr(args, scenes, monkeypatch) == 0, capsys.readouterr().err
        return
    if module == "tasks.asr":
        monkeypatch.setenv("ONECORE_DATA", str(sentences))
        source = "DIGITS" if any("fsdd" in arg for arg in args) else "SPEECH"
        args = [arg.replace("FOLDER", source).replace("WEIGHTS.safetensors", "WHISPER.pt") for arg in args]
        small = SMALL_WHISPER if any("whisper" in arg for arg in args) else SMALL_ASR
        if any("long" in arg for arg in args):
            small = [flag for flag in small if "decoder" not in flag]  # CTC alone
            small.append("--data.only_words=null")  # few sentences are made for this, and none of digits
        small = ["--trainer.logger=false"] if "--ckpt_path" in args else [*small, *ONE]
        assert launch("asr", args + small) == 0, capsys.readouterr().err
        return
    if module == "tasks.forecast":
        args = [arg.replace("FOLDER", "SERIES") for arg in args]
        small = [*SMALL_FORECAST, *ONE] if args[0] == "fit" else ["--trainer.logger=false"]
        if any("long" in arg for arg in args):
            small = [*small, "--data.batch_size=1"]
        if any("--data.file" in arg for arg in args):
            small = [*small, "--data.context_length=96", "--data.prediction_length=24"]
        assert launch("forecast", args + small) == 0, capsys.readouterr().err
        return
    if module == "tasks.benchmark":
        benchmark.parser().parse_args(args)
        return
    if module == "tasks.demo":
        demo.parser().parse_args(args)
        return
    if module == "tasks.help":
        return  # tests/tasks/test_help.py
    assert module == "tasks.vit"
    if args[0] == "sweep":
        run_sweep(args, tmp_path, monkeypatch, capsys)
        return
    if "--data.download=true" in args:
        monkeypatch.setenv("ONECORE_DATA", str(tmp_path))
        files = [f"data_batch_{number}" for number in range(1, 6)]
        names = {"label_key": "labels", "names_key": "label_names", "names": list(CIFAR10.names)}
        fake(monkeypatch, tmp_path, datasets.CIFAR10, files, **names)
        args.append("--data.num_workers=0")
    small = ["--trainer.logger=false"]
    if args[0] == "fit":
        small = [flag for flag in [*SMALL, *ONE] if "batch_size" not in flag]
    if args[0] == "fit" and any("data" in arg or "config" in arg for arg in args):
        small.append("--data.batch_size=4")
    if any("pretrained" in arg for arg in args):
        small = [flag for flag in small if not flag.startswith("--model.")]
    if any("encoder_from=runs/asr" in arg for arg in args):
        small += ["--model.encoder.num_heads=4", *(flag for flag in SMALL_ASR if flag.startswith("--model.encoder."))]
    assert launch("vit", [*args, *small]) == 0, capsys.readouterr().err


def test_documents_name_files_that_exist():
    for source in SOURCES:
        text = source.read_text()
        for name in NAMED_FILE.findall(text) if source != RECIPES else ():
            assert (ROOT / name).exists(), f"{source.name} names {name}"
        for name in re.findall(r"(?:!\[.*?\]\(|src=\")([^\")]+)", text):
            assert (source.parent / name).is_file(), f"{source.name} shows {name}"

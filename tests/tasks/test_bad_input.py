"""Bad input through the real command line: one line that says what is wrong, the right exit code, and nothing lost.

`docs/bad_input.md` counts the cases by kind.
"""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks.catalogue import TASKS
from tests.datamodules.speech.sets import noise, write
from tests.tasks.conftest import SMALL, SMALL_ASR, SMALL_DETR, SMALL_FORECAST, Outcome

pytestmark = pytest.mark.slow
SMALL_OF = {"vit": SMALL, "detr": SMALL_DETR, "asr": SMALL_ASR, "forecast": SMALL_FORECAST}
DOCUMENT = Path(__file__).parents[2] / "docs" / "bad_input.md"


class Case(NamedTuple):
    """What a user types.

    Attributes:
        kind: What is wrong: `argument`, `value`, `class`, `config`, `checkpoint`, `file` or `folder`.
        args: The command line; {RUN}, {BAD}, {GOOD}, {OUT}, {SUFFIX}, {DATA} stand for what a task has.
    """

    kind: str
    args: tuple[str, ...]


def fit(kind: str, *args: str) -> Case:
    return Case(kind, ("fit", *args))


ARGUMENTS = [
    Case("argument", ("fti",)),
    Case("argument", ("train",)),
    Case("argument", ("fit", "configs")),
    *(
        fit("argument", each)
        for each in ("--trainer.max_epoch=1", "--model.encoder.embed_dims=8", "--data.batchsize=2")
    ),
    *(fit("argument", each) for each in ("--training.optimizer.learning_rate=1", "--lr=1", "-x", "--", "--seed=1")),
    *(fit("argument", each) for each in ("--model", "--trainer.max_epochs", "--model.encoder.attention.window=3")),
    Case("argument", ("test",)),
    Case("argument", ("predict",)),
    Case("argument", ("predict", "--ckpt_path={RUN}")),
    Case("argument", ("predict", "--ckpt_path={RUN}", "--input={GOOD}")),
    Case("argument", ("explain", "--ckpt_path={RUN}", "--input={GOOD}")),
    Case("argument", ("export", "--ckpt_path={RUN}")),
    Case("argument", ("sweep",)),
    Case("argument", ("sweep", "--trials=2")),
    Case("argument", ("sweep", "--trials=0", "--space=training.optimizer.lr=1e-4,1e-3")),
    Case("argument", ("sweep", "--trials=2", "--space=training.optimizer.lr=high")),
    Case("argument", ("sweep", "--trials=2", "--space=training.optimzer.lr=1e-4,1e-3")),
]
VALUES = [
    Case("value", ("explain", "--ckpt_path={RUN}", "--input={GOOD}", "--output={OUT}", "--most=0")),
    Case("value", ("test", "--ckpt_path={RUN}", "--model.encoder.ffn_dim=5")),
    *(
        fit("value", each)
        for each in (
            *("--trainer.max_epochs=abc", "--trainer.max_epochs=1.5", "--trainer.max_steps=-7", "--trainer.devices=0"),
            *("--trainer.accelerator=quantum", "--trainer.precision=7", "--trainer.limit_train_batches=-1"),
            *("--trainer.gradient_clip_val=abc", "--trainer.strategy=nothing", "--trainer.check_val_every_n_epoch=0"),
            *("--model.encoder.embed_dim=0", "--model.encoder.embed_dim=-8", "--model.encoder.embed_dim=abc"),
            *("--model.encoder.num_heads=0", "--model.encoder.num_heads=7", "--model.encoder.num_layers=0"),
            *("--model.encoder.num_layers=-1", "--model.encoder.ffn_dim=0", "--model.encoder.dropout=2"),
            *("--model.encoder.dropout=-0.1", "--model.encoder.dropout=nan", "--model.encoder.norm_first=perhaps"),
            *("--model.encoder.dropout=null", "--model.encoder.dropout=#no_number", "--training.optimizer.lr=null"),
            *("--training.optimizer.lr=-1", "--training.optimizer.lr=abc", "--training.ema_decay=1"),
            *("--training.ema_decay=-0.5", "--training.monitor=val/nothing", "--training.monitor_mode=up"),
            *("--training.freeze=[nothing]", "--training.layer_decay=abc", "--training.schedule.warmup=-1"),
            *("--data.num_workers=-1", "--data.num_workers=abc", "--data.seed=abc", "--seed_everything=abc"),
            *("--model.encoder_from=nowhere", "--model.pretrained=nowhere.pt", "--ckpt_path=nowhere.ckpt"),
            *("--trainer.callbacks+=NoSuchCallback", "--trainer.logger=NoSuchLogger", "--trainer.max_time=soon"),
        )
    ),
]
CLASSES = [
    fit("class", *each)
    for each in (
        ("--model.encoder.attention=NoSuchAttention",),
        ("--model.encoder.attention=no.such.module.Attention",),
        ("--model.encoder.attention=torch.nn.Linear",),
        ("--model.encoder.attention=LongformerAttention", "--model.encoder.attention.window_size=0"),
        ("--model.encoder.attention=LongformerAttention", "--model.encoder.attention.window_size=7"),
        ("--model.encoder.attention=LongformerAttention", "--model.encoder.attention.window_size=abc"),
        ("--model.encoder.attention=SparseAttention", "--model.encoder.attention.stride=0"),
        ("--model.encoder.attention=LinearAttention", "--model.encoder.attention.window_size=4"),
        ("--model.encoder=NoSuchEncoder",),
        ("--training.optimizer=NoSuchOptimizer",),
        ("--training.schedule=NoSuchSchedule",),
        ("--data=NoSuchData",),
        ("--data=datamodules.NoSuchData",),
    )
]
CONFIGS = {
    "missing": None,
    "empty": "",
    "a list": "- 1\n- 2\n",
    "a word": "hello\n",
    "broken": "model: [1, 2\n",
    "tabs": "model:\n\tencoder: 1\n",
    "binary": "\x00\x01\x02",
    "a wrong key": "modle:\n  encoder:\n    init_args: {}\n",
    "a wrong key inside": "model:\n  encoder:\n    init_args:\n      embed_dims: 8\n",
    "a wrong type": "trainer:\n  max_epochs: [1]\n",
    "a class that is none": "model:\n  encoder:\n    class_path: no.Such\n",
    "a number for a group": "trainer: 3\n",
}
CHECKPOINTS = ("missing", "a folder", "empty", "text", "torn", "of another task", "weights alone", "a pickle")
COMMANDS = ("fit", "test", "predict", "explain", "export")
FILES = ("missing", "an empty folder", "an empty file", "text", "torn", "a folder of text", "binary")


def cases() -> Iterator[tuple[str, Case]]:
    for each in [*ARGUMENTS, *VALUES, *CLASSES]:
        yield " ".join(each.args), each
    for name in CONFIGS:
        if name != "empty":  # an empty file changes nothing
            yield f"config: {name}", fit("config", "--config={BAD}/" + name.replace(" ", "_") + ".yaml")
    yield "config: a folder", fit("config", "--config={BAD}")
    for number, name in enumerate(CHECKPOINTS):
        for command in (COMMANDS[number % 5], COMMANDS[(number + 2) % 5]):
            more = ("--input={GOOD}",) if command in ("predict", "explain") else ()
            more += ("--output={OUT}",) if command in ("predict", "explain", "export") else ()
            path = "{BAD}/" + name.replace(" ", "_") + ".ckpt"
            yield f"checkpoint: {name}: {command}", Case("checkpoint", (command, f"--ckpt_path={path}", *more))
    for command in ("predict", "explain"):
        for name in FILES:
            path = "{BAD}/input/" + name.replace(" ", "_") + "{SUFFIX}" * ("folder" not in name)
            args = (command, "--ckpt_path={RUN}", f"--input={path}", "--output={OUT}")
            yield f"file: {name}: {command}", Case("file", args)
        args = (command, "--ckpt_path={RUN}", "--input={GOOD}", "--output={BAD}/a_word.yaml")
        yield f"folder: {command} into a file", Case("folder", args)
    yield "folder: runs in a file", fit("folder", "--runs={BAD}/a_word.yaml/runs")
    yield "folder: export into a file", Case("folder", ("export", "--ckpt_path={RUN}", "--output={BAD}/a_word.yaml/x"))
    yield "folder: no data there", fit("folder", "--data={DATA}", "--data.root={BAD}")


CASES = dict(cases())
DATA = {"vit": "ImageFolder", "detr": "VOC", "asr": "FreeSpokenDigits", "forecast": "ETT"}
SUFFIX = {"vit": ".png", "detr": ".png", "asr": ".wav", "forecast": ".csv"}


@pytest.fixture(scope="session")
def workplace(tmp_path_factory, trained, detr_trained, asr_trained, forecast_trained) -> Path:
    """Of each task a folder with a run, a good file, and whatever is bad."""
    folder = tmp_path_factory.mktemp("bad")
    runs = {"vit": trained, "detr": detr_trained, "asr": asr_trained, "forecast": forecast_trained}
    for task, run in runs.items():
        bad = folder / task / "bad"
        (bad / "input").mkdir(parents=True)
        best = run / "checkpoints" / "best.ckpt"
        shutil.copy(best, folder / task / "best.ckpt")
        for name, content in CONFIGS.items():
            if content is not None:
                (bad / f"{name.replace(' ', '_')}.yaml").write_text(content)
        _write_checkpoints(bad, best, runs["vit" if task != "vit" else "asr"] / "checkpoints" / "best.ckpt")
        _write_files(folder / task, SUFFIX[task])
    return folder


def _write_checkpoints(bad: Path, best: Path, other: Path) -> None:
    (bad / "a_folder.ckpt").mkdir()
    (bad / "empty.ckpt").touch()
    (bad / "text.ckpt").write_text("weights")
    (bad / "torn.ckpt").write_bytes(best.read_bytes()[:-2000])
    shutil.copy(other, bad / "of_another_task.ckpt")
    torch.save(torch.load(best, weights_only=True)["state_dict"], bad / "weights_alone.ckpt")
    torch.save({"onecore": Path("harmful")}, bad / "a_pickle.ckpt")


def _write_files(folder: Path, suffix: str) -> None:
    good, inputs = folder / f"good{suffix}", folder / "bad" / "input"
    if suffix == ".png":
        Image.new("L", (40, 30), 90).save(good)
    elif suffix == ".wav":
        write(good, noise(0.5))
    else:
        good.write_text("time,demand\n" + "".join(f"2000-06-05 {n // 2:02}:{30 * (n % 2):02},{n}\n" for n in range(48)))
    (inputs / "an_empty_folder").mkdir()
    (inputs / "a_folder_of_text").mkdir()
    (inputs / "a_folder_of_text" / "a.txt").write_text("text")
    (inputs / f"an_empty_file{suffix}").touch()
    (inputs / f"text{suffix}").write_text("not what its name says\n")
    (inputs / f"torn{suffix}").write_bytes(good.read_bytes()[:20])
    (inputs / f"binary{suffix}").write_bytes(bytes(range(256)) * 4)


def contents(folder: Path) -> dict[str, str]:
    """What lies there: nothing of it may be lost or changed."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def refuse(workplace, call, tmp_path, monkeypatch, scenes, sentences) -> Callable[[str, Case], Outcome]:
    """Runs a case; what lay there before has to lie there still."""
    monkeypatch.chdir(tmp_path)

    def run(task: str, case: Case) -> Outcome:
        own = workplace / task
        monkeypatch.setenv("ONECORE_DATA", str(scenes if task == "detr" else sentences))
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "predictions.csv").write_text("mine")
        before = contents(own)
        places = {"RUN": own / "best.ckpt", "BAD": own / "bad", "GOOD": own / f"good{SUFFIX[task]}"}
        places |= {"OUT": tmp_path / "out", "SUFFIX": SUFFIX[task], "DATA": DATA[task]}
        args = [re.sub(r"\{(\w+)\}", lambda name: str(places[name[1]]), arg) for arg in case.args]
        small = SMALL_OF[task] if args[0] == "fit" else []
        outcome = call(task, args[0], *small, *args[1:])
        assert contents(own) == before, "something that was there is changed"
        left = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
        assert b"mine" in left, "an earlier result may get another name, but not lost"
        return outcome

    return run


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", CASES)
def test_one_line_and_nothing_lost(refuse, task: str, name: str):
    case = CASES[name]
    outcome = refuse(task, case)
    assert outcome.code in (1, 2), outcome.out[-500:]
    assert len(outcome.one_line) > len("error: ") + 10
    if case.kind == "argument":
        assert outcome.code == 2


NAMES = ("model.encoder.embed_dim", "model.encoder.dropout", "trainer.max_epochs", "training.optimizer.lr", "data.seed")


@pytest.mark.parametrize("task", TASKS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(NAMES), text=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12))
def test_any_text_as_a_value_is_told_in_one_line(refuse, task: str, name: str, text: str):
    try:
        float(text)
    except ValueError:
        outcome = refuse(task, fit("value", f"--{name}={text}x"))
        assert outcome.code in (1, 2)
        assert outcome.one_line


def test_there_are_a_hundred_and_the_document_counts_them():
    counts: dict[str, int] = {}
    for case in CASES.values():
        counts[case.kind] = counts.get(case.kind, 0) + 1
    assert sum(counts.values()) >= 100
    rows = dict(re.findall(r"^\| (\w+) \| (\d+) \|", DOCUMENT.read_text(), re.MULTILINE))
    assert rows == {kind: str(count) for kind, count in counts.items()}

"""What `python -m tasks` says without waiting for torch: tasks, experiments, runs, and what to type next."""

import re
from pathlib import Path

_TASKS = Path(__file__).parent
CONFIGS = _TASKS.parent / "configs"
RUNS = Path("runs")


def task_names() -> list[str]:
    """The tasks that have help and experiments, those of the documents first.

    >>> task_names()
    ['vit', 'detr', 'asr', 'forecast']
    """
    names = [path.parent.parent.name for path in _TASKS.glob("*/help/overview.txt")]
    order = ["vit", "detr", "asr", "forecast"]
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def tasks_and_configs() -> str:
    """A paragraph for each task: what it does, and its experiments with what their files say first."""
    parts = ["One Transformer core under every modality. `python -m tasks.TASK --help` lists a task's commands.\n"]
    for task in task_names():
        lines = [f"tasks.{task}: {_summary(task)}"]
        lines += [f"  {path.relative_to(CONFIGS.parent)}\n      {about(path)}" for path in experiments(task)]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def experiments(task: str) -> list[Path]:
    """The experiments of a task, the default one first."""
    default = default_of(task)
    return sorted((CONFIGS / task).glob("*.yaml"), key=lambda path: (path != default, path.name))


def default_of(task: str) -> Path:
    """The experiment that `fit` runs without `--config`, as the shipped help names it."""
    named = re.search(r"it runs configs/(\S+?\.yaml)", _help(task))
    assert named is not None, f"the help of {task} names its default"
    return CONFIGS / named[1]


def about(path: Path) -> str:
    """The first sentence of an experiment's file."""
    comment = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# "):
            break
        comment.append(line.removeprefix("# ").strip())
    text = re.split(r"\s(?=python -m )", " ".join(comment))[0]
    return re.split(r"(?<! al)\.\s(?=[A-Z])|[.:]?$", text)[0]


def next_commands() -> str:
    """For each task: to train, or to use the newest run that there is."""
    lines = ["\nnext, to type:"]
    for task in task_names():
        best = newest(task)
        if best is None:
            lines.append(f"  python -m tasks.{task} fit")
        else:
            lines.append(
                f"  python -m tasks.{task} predict --ckpt_path {best} --input FILE --output predictions/{task}"
            )
    return "\n".join(lines) + "\n"


def newest(task: str) -> Path | None:
    """The best checkpoint of a task's newest run below `runs`; None where there is none."""
    found = sorted((RUNS / task).glob("*/checkpoints/best.ckpt"))
    return found[-1] if found else None


def _summary(task: str) -> str:
    return _help(task).split("\n\n")[1].strip()


def _help(task: str) -> str:
    return (_TASKS / task / "help" / "overview.txt").read_text(encoding="utf-8")

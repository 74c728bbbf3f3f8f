"""What `python -m tasks` says without waiting for torch: tasks, experiments, runs, and what to type next."""

import re
from pathlib import Path

from tasks.catalogue import CONFIGS, TASKS
from tasks.launch import help_text

RUNS = Path("runs")


def tasks_and_configs() -> str:
    """A paragraph for each task: what it does, and its experiments with what their files say first."""
    parts = ["One Transformer core under every modality. `python -m tasks.TASK --help` lists a task's commands.\n"]
    for task in TASKS:
        lines = [f"tasks.{task}: {_summary(task)}"]
        lines += [f"  {path.relative_to(CONFIGS.parent)}\n      {about(path)}" for path in experiments(task)]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def experiments(task: str) -> list[Path]:
    """The experiments of a task, the default one first."""
    return sorted((CONFIGS / task).glob("*.yaml"), key=lambda path: (path != TASKS[task].config, path.name))


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
    for task in TASKS:
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
    return help_text(task, "overview").split("\n\n")[1].strip()

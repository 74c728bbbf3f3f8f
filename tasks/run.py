"""A run's folder and the files in it: never an earlier one overwritten, never a half-written one left."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO


def now() -> str:
    """The local time as it stands in the names of folders and files."""
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def make_run_folder(runs: Path, task: str) -> Path:
    """Makes `runs/task/time`, a folder that no other run has, even where two start in the same second."""
    name = now()
    (runs / task).mkdir(parents=True, exist_ok=True)
    for suffix in ["", *(f"-{number}" for number in range(2, 1000))]:
        folder = runs / task / (name + suffix)
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{runs / task / name} to {name}-999 exist already")


@contextmanager
def claimed_run_folder(runs: Path, task: str) -> Iterator[Path]:
    """Makes a run's folder, and takes it away again, with what had to be made for it, if an error ends the block."""
    made = [path for path in (runs / task, *(runs / task).parents) if not path.exists()]
    folder = make_run_folder(runs, task)
    try:
        yield folder
    except BaseException:
        for path in (folder, *made):
            with suppress(OSError):  # what something was put into stays
                path.rmdir()
        raise


def write_whole(path: Path, content: str | bytes | memoryview) -> None:
    """Writes a file whole or not at all: beside it first, then renamed; text as UTF-8.

    It is on the disk before it takes the place of an earlier one, so that a machine that fails leaves one of the two.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def keep_earlier(*paths: Path) -> None:
    """Renames files that are about to be written anew, so that earlier results stay: `a.csv` to `a_<time>.csv`."""
    for path in paths:
        if path.exists():
            stamp = datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d_%H-%M-%S")
            kept = path.with_name(f"{path.stem}_{stamp}{path.suffix}")
            number = 2
            while kept.exists():
                kept = path.with_name(f"{path.stem}_{stamp}-{number}{path.suffix}")
                number += 1
            path.rename(kept)


def write_anew(path: Path, content: str | bytes) -> None:
    """Writes a file whole, and its folder if it is not there; an earlier one stays under another name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    keep_earlier(path)
    write_whole(path, content)


@contextmanager
def open_anew(path: Path) -> Iterator[TextIO]:
    """Opens what is too long for `write_anew` to have in memory; nothing is written where an error ends the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8", newline="") as file:
            yield file
        keep_earlier(path)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def output_names(names: Sequence[str]) -> list[str]:
    """A name without suffix for what is made of each file, unlike all others: below the files' common folder.

    >>> output_names(["in/a/1.jpg", "in/b/1.jpg", "in/b/1.png"])
    ['a/1', 'b/1', 'b/1-2']
    """
    paths = [os.path.abspath(name) for name in names]
    common = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    made: list[str] = []
    taken: set[str] = set()
    for path in paths:
        plain = Path(path).relative_to(common).with_suffix("").as_posix()
        name, number = plain, 2
        while name.lower() in taken:  # some file systems do not tell A from a
            name, number = f"{plain}-{number}", number + 1
        taken.add(name.lower())
        made.append(name)
    return made

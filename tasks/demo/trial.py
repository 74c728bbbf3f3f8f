"""Applies a run to one file that somebody dropped, whatever it is."""

import logging
import os
import re
import shutil
from collections import deque
from functools import lru_cache
from pathlib import Path

from pytorch_lightning import Trainer

from tasks.catalogue import TASKS
from tasks.demo.answers import MOST_PICTURES, Answer, read_answer
from tasks.demo.runs import Run
from tasks.errors import TaskError
from tasks.explanation import explain
from tasks.prediction import Unreadable, predict_files
from tasks.trained import Trained, load_trained

_KEPT = 8
"""Answers whose files are kept; the page has its own copies of them."""

_log = logging.getLogger(__name__)


class Trial:
    """Applies runs, one at a time, as `predict` does.

    Args:
        folder: Where files are worked on; nothing is written elsewhere.
        uploads: Where the files are that were dropped; nothing is read elsewhere, whatever a request by hand
            names.
    """

    def __init__(self, folder: Path, uploads: Path) -> None:
        self.folder = folder
        self.uploads = uploads
        self._count = 0
        self._kept = deque[Path]()

    def __call__(self, run: Run, file: Path, *, looked: bool) -> Answer | str:
        """Gives the answer, or one line that says why there is none.

        Args:
            run: The run.
            file: What was dropped, under the name that its sender gave it.
            looked: Whether to show where the network looked.
        """
        own = self._make_folder()
        copy = own / "input" / safe_name(file.name)
        if not file.resolve().is_relative_to(self.uploads.resolve()):
            return f"{copy.name} was not dropped on this page"
        copy.parent.mkdir()
        shutil.copyfile(file, copy)
        try:
            return _apply(run, copy, own / "output", looked=looked)
        except (TaskError, ValueError, OSError) as error:
            return _one_line(str(error), own)
        except Exception as error:  # a file is anybody's: what nobody has thought of must not stop the page
            _log.exception("%s could not be answered", copy.name)
            return _one_line(f"{copy.name} could not be answered: {error}", own)

    def _make_folder(self) -> Path:
        self._count += 1
        own = self.folder / str(self._count)
        own.mkdir()
        self._kept.append(own)
        while len(self._kept) > _KEPT:
            shutil.rmtree(self._kept.popleft(), ignore_errors=True)
        return own


def safe_name(name: str) -> str:
    """A name as files, titles and messages can have it: of letters, digits, `.`, `-` and `_`.

    >>> safe_name("../a <b>.PNG"), safe_name("..."), safe_name("x" * 200 + ".wav") == "x" * 56 + ".wav"
    ('a-b-.PNG', 'file', True)
    """
    plain = re.sub(r"[^\w.-]+", "-", Path(name).name).lstrip(".-")
    suffix = Path(plain).suffix[:10]
    return (Path(plain).stem[: 60 - len(suffix)] + suffix) or "file"


def _apply(run: Run, file: Path, output: Path, *, looked: bool) -> Answer | str:
    trained = _load(run, run.checkpoint.stat().st_mtime_ns)
    trainer = Trainer(
        logger=False,
        devices=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
    )
    model, data = trained
    try:
        if looked:
            explain(trainer, model, data, input=str(file), output=str(output), most=MOST_PICTURES + 1)
        else:
            predict_files(trainer, model, data, data.predict_files(file), output)
    except Unreadable as error:
        return _one_line(error.reasons[0], file.parents[1])
    return read_answer(run.task, output, file)


@lru_cache(maxsize=4)
def _load(run: Run, changed: int) -> Trained:  # noqa: ARG001 - a checkpoint that has changed is another one
    trained = load_trained(run.checkpoint, TASKS[run.task].module_class)
    trained.data.num_workers = 0
    return trained


def _one_line(message: str, folder: Path) -> str:
    """A message without the folder that its sender knows nothing of."""
    for inner in (folder / "input", folder / "output", folder):
        message = message.replace(f"{inner}{os.sep}", "")
    return " ".join(message.split())

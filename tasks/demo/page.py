"""The page: for each task a choice of runs, a place for a file, and the answer."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from tasks.demo.runs import Run, find_runs
from tasks.demo.trial import Trial

CSS = Path(__file__).with_name("page.css")


class Words(NamedTuple):
    """What the page says of a task.

    Attributes:
        title: What the task does.
        asked: What is dropped.
        formats: In which formats.
    """

    title: str
    asked: str
    formats: str


WORDS = {
    "vit": Words("Classes", "picture", "JPEG, PNG, WebP, BMP, TIFF"),
    "detr": Words("Boxes", "picture", "JPEG, PNG, WebP, BMP, TIFF"),
    "asr": Words("Speech", "sound", "WAV, FLAC, MP3, OGG"),
    "forecast": Words("Forecast", "table of series", "CSV, Parquet"),
}
"""The tasks of the page, in its order."""


def make_page(runs: Path, trial: Trial, max_mb: int) -> gr.Blocks:
    """Builds the page; whoever loads it is offered the runs that there are then.

    Args:
        runs: Where runs lie.
        trial: Applies one.
        max_mb: The largest file that is taken, MB; to be said.
    """
    with gr.Blocks(title="onecore", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.HTML('<h1>onecore</h1><p class="lead">Try a trained run. What you drop here stays on this machine.</p>')
        offered: list[Any] = []
        with gr.Tabs():
            for task, words in WORDS.items():
                with gr.Tab(words.title, id=task):
                    offered += _add_task(task, runs, trial, max_mb)
        page.load(lambda: _offers(runs), outputs=offered, api_visibility="private", queue=False, show_progress="hidden")
    return page


def _offers(runs: Path) -> list[Any]:
    """What becomes of the three parts of each task that `_add_task` returns."""
    updates = []
    for task in WORDS:
        found = find_runs(runs, task)
        updates += [gr.update(visible=not found), gr.update(visible=bool(found)), gr.update(**_choice(found))]
    return updates


def _choice(found: Sequence[Run]) -> dict[str, Any]:
    labels = [(run.label(), run.name) for run in found]
    return {"choices": labels, "value": found[0].name if found else None, "filterable": len(found) > 8}


def _add_task(task: str, runs: Path, trial: Trial, max_mb: int) -> list[Any]:
    """Adds a task's parts; returns what is shown without any run, what is shown else, and the choice of a run."""
    words, found = WORDS[task], find_runs(runs, task)
    without = f"<p>No run yet: <code>python -m tasks.{task} fit</code> trains one; then load this page again.</p>"
    none = gr.HTML(without, visible=not found)
    with gr.Row(visible=bool(found)) as row:
        with gr.Column(scale=3, min_width=280):
            run = gr.Dropdown(**_choice(found), label="Run", elem_id=f"{task}-run")
            file = gr.File(label=f"{words.asked.capitalize()}, up to {max_mb} MB", elem_id=f"{task}-file", height=180)
            file.async_move_resource_to_block_cache = _as_it_is  # pyright: ignore[reportAttributeAccessIssue]
            looked = gr.Checkbox(True, label="Show where the network looked", elem_id=f"{task}-looked")
        with gr.Column(scale=5, min_width=280):
            said = gr.HTML(_hint(words), elem_id=f"{task}-answer", elem_classes="answer")
            sound = gr.Audio(visible=False, interactive=False, type="filepath", label="The sound", buttons=[])
            attention = gr.HTML(visible=False, elem_id=f"{task}-attention", elem_classes="answer")
            files = gr.File(
                visible=False, interactive=False, file_count="multiple", label="As files", elem_classes="files"
            )
    shown = [said, sound, attention, files]
    gr.on(
        [file.upload, run.change, looked.change],
        partial(_answer, partial(find_runs, runs, task), trial, words),
        inputs=[run, file, looked],
        outputs=shown,
        api_visibility="private",
        concurrency_id="network",  # one at a time, whoever asks
        concurrency_limit=1,
        show_progress_on=said,
        trigger_mode="always_last",  # another run that is chosen while the last one still draws
    )
    file.clear(lambda: _nothing(words), outputs=shown, api_visibility="private", queue=False)
    return [none, row, run]


def _answer(
    find: Callable[[], list[Run]], trial: Trial, words: Words, name: str, file: str | None, looked: bool
) -> Iterator[list[Any]]:
    """What the page shows of a file, or in one line why there is nothing to show; then where the network looked."""
    if file is None:
        yield _nothing(words)
        return
    run = next((each for each in find() if each.name == name), None)
    if run is None:
        yield _wrong(f"{name} is no run any more; load this page again", words)
        return
    outcome = trial(run, Path(file), looked=False)
    if isinstance(outcome, str):
        yield _wrong(outcome, words)
        return
    is_sound = run.task == "asr"
    files = [str(path) for path in outcome.files]
    shown = [
        outcome.markup,
        gr.update(value=file if is_sound else None, visible=is_sound),
        gr.update(value='<p class="hint">Drawing where the network looked ...</p>', visible=looked),
        gr.update(value=files, visible=bool(files)),
    ]
    yield shown
    if looked:
        outcome = trial(run, Path(file), looked=True)
        shown[2] = gr.update(value=outcome if isinstance(outcome, str) else outcome.attention, visible=True)
        yield shown


async def _as_it_is(path: str) -> str:
    """Takes the place of what copies, or downloads, whatever a request by hand names (gradio 6.31, mounted).

    What the page itself has uploaded is where it belongs, and `Trial` takes nothing else.
    """
    return path


def _wrong(message: str, words: Words) -> list[Any]:
    return [f'<p class="wrong" role="alert">{escape(message)}</p>', *_nothing(words)[1:]]


def _nothing(words: Words) -> list[Any]:
    return [_hint(words), *[gr.update(value=None, visible=False)] * 3]


def _hint(words: Words) -> str:
    return f'<p class="hint">Drop a {words.asked} ({words.formats}); the answer comes here.</p>'

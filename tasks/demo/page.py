"""The page: for each task a choice of runs, a place for a file, and the answer."""

from collections.abc import Iterator, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from tasks.demo.runs import Run
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


def make_page(runs: dict[str, list[Run]], trial: Trial, max_mb: int) -> gr.Blocks:
    """Builds the page.

    Args:
        runs: Of each task, the newest first.
        trial: Applies one.
        max_mb: The largest file that is taken, MB; to be said.
    """
    with gr.Blocks(title="onecore", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.HTML('<h1>onecore</h1><p class="lead">Try a trained run. What you drop here stays on this machine.</p>')
        with gr.Tabs():
            for task, words in WORDS.items():
                with gr.Tab(words.title, id=task):
                    if runs[task]:
                        _add_task(task, runs[task], trial, max_mb)
                    else:
                        gr.HTML(f"<p>No run yet: <code>python -m tasks.{task} fit</code> trains one.</p>")
    return page


def _add_task(task: str, runs: Sequence[Run], trial: Trial, max_mb: int) -> None:
    words = WORDS[task]
    with gr.Row():
        with gr.Column(scale=3, min_width=280):
            labels = [(run.label, number) for number, run in enumerate(runs)]
            run = gr.Dropdown(labels, value=0, label="Run", elem_id=f"{task}-run", filterable=len(runs) > 8)
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
        partial(_answer, runs, trial, words),
        inputs=[run, file, looked],
        outputs=shown,
        api_visibility="private",
        concurrency_id="network",  # one at a time, whoever asks
        concurrency_limit=1,
        show_progress_on=said,
        trigger_mode="always_last",  # another run that is chosen while the last one still draws
    )
    file.clear(lambda: _nothing(words), outputs=shown, api_visibility="private", queue=False)


def _answer(
    runs: Sequence[Run], trial: Trial, words: Words, number: int, file: str | None, looked: bool
) -> Iterator[list[Any]]:
    """What the page shows of a file, or in one line why there is nothing to show; then where the network looked."""
    if file is None:
        yield _nothing(words)
        return
    run = runs[number]
    outcome = trial(run, Path(file), looked=False)
    if isinstance(outcome, str):
        yield [f'<p class="wrong" role="alert">{escape(outcome)}</p>', *_nothing(words)[1:]]
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


def _nothing(words: Words) -> list[Any]:
    return [_hint(words), *[gr.update(value=None, visible=False)] * 3]


def _hint(words: Words) -> str:
    return f'<p class="hint">Drop a {words.asked} ({words.formats}); the answer comes here.</p>'

"""What `predict` has written for one file, as the page shows it."""

import csv
import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from datamodules.reading import read_image

MOST_PICTURES = 10
"""Pictures of one kind on the page."""
MOST_ROWS = 200
"""Rows of a table on the page; the file has them all."""


class Answer(NamedTuple):
    """What the page shows of a file.

    Attributes:
        markup: The answer, HTML.
        attention: Pictures of where the network looked, HTML.
        files: What there is to download.
    """

    markup: str
    attention: str
    files: list[Path]


def read_answer(task: str, folder: Path, file: Path) -> Answer:
    """Reads what is in the folder that `predict` has written to.

    Args:
        task: Whose answer it is.
        folder: The folder.
        file: What was predicted.
    """
    found = READERS[task](folder, file)
    looked = [path for path in sorted(folder.rglob("*.png")) if path not in found.pictures]
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in (".json", ".csv", ".srt", ".vtt", ".txt")]
    said = f'<p class="said">{found.said}</p>{_pictures(found.pictures, "the answer")}{found.details}'
    return Answer(said, _attention(looked), files)


class Found(NamedTuple):
    """What a task's files say.

    Attributes:
        said: The answer in a line, HTML.
        pictures: The answer as pictures.
        details: All of it, HTML.
    """

    said: str
    pictures: list[Path]
    details: str


def classes(folder: Path, file: Path) -> Found:
    """The most probable classes, each with a bar."""
    (record,) = json.loads((folder / "predictions.json").read_text(encoding="utf-8"))
    bars = "".join(_bar(each["label"], each["probability"]) for each in record["top5"])
    return Found(escape(record["label"]), [_shown(file, folder / "shown.png")], f'<div class="bars">{bars}</div>')


def boxes(folder: Path, _: Path) -> Found:
    """The boxes that were found, the surest first; the picture has those that are drawn."""
    records = json.loads((folder / "predictions.json").read_text(encoding="utf-8"))
    drawn = sum(record["score"] >= 0.5 for record in records)
    rows = []
    for record in records:
        left, top, width, height = record["bbox"]
        corners = [f"{side:.0f}" for side in (left, top, left + width, top + height)]
        rows.append([record["category_name"], f"{record['score']:.2f}", *corners])
    table = _table(["class", "score", "left", "top", "right", "bottom"], rows)
    said = f"{drawn} found" if drawn else "Nothing is surer than 50%"
    return Found(said, sorted(folder.glob("drawings/*.png")), table)


def words(folder: Path, file: Path) -> Found:
    """The text, its words along the time, and their seconds."""
    document = json.loads((folder / f"{file.stem}.json").read_text(encoding="utf-8"))
    heard = document["words"]
    if not heard:
        return Found("<em>nothing was heard</em>", [], "")
    rows = [
        [each["word"], f"{each['start']:.2f}", f"{each['end']:.2f}", _percent(each["confidence"])] for each in heard
    ]
    table = _table(["word", "from, s", "to, s", "sure"], rows)
    return Found(escape(document["text"]), [], _timeline(heard) + table)


def forecast(folder: Path, file: Path) -> Found:
    """The forecasts as a table; pictures show their bands."""
    with (folder / f"{file.stem}.csv").open(encoding="utf-8", newline="") as table:
        head, *rows = csv.reader(table)
    first, last = (row[head.index("timestamp")][:16].replace("T", " ") for row in (rows[0], rows[-1]))
    said = escape(f"{len(rows)} values, {first} to {last}")
    return Found(said, sorted(folder.glob("forecasts/*.png")), _table(head, rows))


READERS: dict[str, Callable[[Path, Path], Found]] = {
    "vit": classes,
    "detr": boxes,
    "asr": words,
    "forecast": forecast,
}


def _attention(pictures: Sequence[Path]) -> str:
    if not pictures:
        return '<p class="hint">There is no picture of where this network looked.</p>'
    more = f" (the first {MOST_PICTURES} of {len(pictures)})" if len(pictures) > MOST_PICTURES else ""
    shown = _pictures(pictures, "where the network looked")
    return f"<h2>Where the network looked{more}</h2>{shown}"


def _pictures(paths: Sequence[Path], shows: str) -> str:
    """Pictures in full; one that is wide scrolls in its own box where the window is narrow."""
    return "".join(
        f'<div class="scroll picture" tabindex="0"><img alt="{escape(path.stem)}: {shows}" '
        f'src="data:image/png;base64,{b64encode(path.read_bytes()).decode()}"></div>'
        for path in paths[:MOST_PICTURES]
    )


def _shown(file: Path, path: Path) -> Path:
    """A picture as every browser shows it, neither huge nor tiny."""
    picture = to_pil_image(read_image(file, 3))
    picture.thumbnail((1000, 1000))
    times = max(1, 280 // max(picture.size))
    picture.resize((times * picture.width, times * picture.height), Image.Resampling.NEAREST).save(path)
    return path


def _bar(label: str, share: float) -> str:
    return (
        f'<span>{escape(label)}</span><span class="bar"><i style="width: {100 * share:.1f}%"></i></span>'
        f"<span>{_percent(share)}</span>"
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}%"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table that scrolls in its own box."""
    columns = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows[:MOST_ROWS])
    more = f"<p>The first {MOST_ROWS} of {len(rows)} rows; the file has them all.</p>" if len(rows) > MOST_ROWS else ""
    table = f"<table><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{table}</div>{more}'


def _cells(row: Iterable[Any]) -> str:
    return "".join(f"<td>{escape(str(value))}</td>" for value in row)


def _timeline(heard: Sequence[dict[str, Any]]) -> str:
    """Words where they were heard, over the whole width, but 80 pixels a second at least: longer ones scroll."""
    end = max(each["end"] for each in heard)
    marks = "".join(
        f'<span style="left: {100 * each["start"] / end:.2f}%; width: {100 * (each["end"] - each["start"]) / end:.2f}%"'
        f' title="{escape(each["word"])}: {each["start"]:.2f} to {each["end"]:.2f} s">{escape(each["word"])}</span>'
        for each in heard
    )
    ticks = "".join(f'<b style="left: {100 * second / end:.2f}%">{second} s</b>' for second in range(int(end) + 1))
    inner = f'<div style="min-width: {80 * end:.0f}px">{marks}{ticks}</div>'
    return f'<div class="scroll timeline" tabindex="0">{inner}</div>'

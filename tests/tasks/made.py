"""Data that are learnt in seconds, in the layout on disk of each experiment's own data."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from matplotlib.colors import hsv_to_rgb
from PIL import Image

from datamodules.series.ett import _COLUMNS
from datamodules.speech.digits import DIGITS
from tests.datamodules.detection import sets
from tests.datamodules.speech.sets import write_tokenizer

SHAPES = {"RBC": (0.0, 12), "WBC": (0.33, 16), "Platelets": (0.66, 8)}
"""Of each class, a hue and a radius in pixels."""


def paint(labels: np.ndarray, size: int, random: np.random.Generator, num_classes: int = 10) -> np.ndarray:
    """Pictures (n, size, size, 3) of a hue a class, under noise."""
    hues = np.stack([labels / num_classes, np.full(len(labels), 0.8), np.full(len(labels), 0.7)], axis=1)
    plain = 255 * hsv_to_rgb(hues)[:, None, None]
    return (plain + random.normal(0, 25, (len(labels), size, size, 3))).clip(0, 255).astype(np.uint8)


def write_folder(root: Path, counts: dict[str, int], size: int) -> None:
    """`root/<part>/<class>/*.png`, four classes, the first with twice as many pictures."""
    random = np.random.default_rng(0)
    for part, count in counts.items():
        labels = np.array([0, 0, 1, 2, 3] * count)
        for number, pixels in enumerate(paint(labels, size, random, 4)):
            path = root / part / f"class{labels[number]}" / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


def draw_discs(
    random: np.random.Generator, size: tuple[int, int], most: int, zoom: float
) -> tuple[np.ndarray, list[tuple[str, int, int, int, int]]]:
    """A grey picture of a height and width with discs that do not touch, and the box and class of each."""
    pixels = random.normal(200, 8, (*size, 3))
    rows, columns = np.mgrid[: size[0], : size[1]]
    boxes: list[tuple[str, int, int, int, int]] = []
    taken = np.zeros(size, bool)
    for _ in range(random.integers(1, most + 1)):
        name = list(SHAPES)[random.integers(len(SHAPES))]
        hue, radius = SHAPES[name][0], round(zoom * SHAPES[name][1])
        y, x = (int(random.integers(radius + 1, side - radius - 1)) for side in size)
        disc = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
        if not (taken & disc).any():
            taken |= disc
            pixels[disc] = 255 * hsv_to_rgb((hue, 0.8, 0.8)) + random.normal(0, 8, (disc.sum(), 3))
            boxes.append((name, x - radius, y - radius, x + radius + 1, y + radius + 1))
    return pixels.clip(0, 255).astype(np.uint8), boxes


def write_cells(root: Path, counts: dict[str, int], size: tuple[int, int], *, most: int, zoom: float = 1.0) -> None:
    """Discs as cells, in Pascal VOC's layout as BCCD has it."""
    random = np.random.default_rng(0)
    drawn = {part: [draw_discs(random, size, most, zoom) for _ in range(count)] for part, count in counts.items()}
    parts = {
        part: {
            f"{part}_{number:03}": [(name, x1 + 1, y1 + 1, x2, y2) for name, x1, y1, x2, y2 in boxes]
            for number, (_, boxes) in enumerate(pictures)
        }
        for part, pictures in drawn.items()
    }
    folder = sets.write_voc(root / "BCCD", parts, size)
    for part, pictures in drawn.items():
        for number, (pixels, _) in enumerate(pictures):
            Image.fromarray(pixels).save(folder / f"JPEGImages/{part}_{number:03}.jpg", quality=95)


def write_coco(root: Path, counts: dict[str, int], size: tuple[int, int], *, most: int, zoom: float = 1.0) -> None:
    """The same discs in COCO's layout, with sparse ids of the classes."""
    random, ids = np.random.default_rng(0), (3, 17, 90)
    categories = [{"id": number, "name": name} for number, name in zip(ids, SHAPES, strict=True)]
    for part, count in counts.items():
        drawn = [draw_discs(random, size, most, zoom) for _ in range(count)]
        sets.write_part(root, part, _document(drawn, ids, categories), [pixels for pixels, _ in drawn])


def write_scenes(root: Path, counts: dict[str, int], size: tuple[int, int], *, most: int) -> None:
    """The same discs in grey for the first three digits, as the embedded scenes lie."""
    random, folder = np.random.default_rng(0), root / "digit_scenes"
    categories = [{"id": digit, "name": str(digit)} for digit in range(10)]
    (folder / "annotations").mkdir(parents=True)
    for part, count in counts.items():
        drawn = [draw_discs(random, size, most, 1.0) for _ in range(count)]
        content = _document(drawn, (0, 1, 2), categories)
        (folder / part).mkdir()
        for image, (pixels, _) in zip(content["images"], drawn, strict=True):
            Image.fromarray(pixels).convert("L").save(folder / part / image["file_name"])
        (folder / "annotations" / f"{part}.json").write_text(json.dumps(content))


def _document(drawn: list[Any], ids: tuple[int, ...], categories: list[dict[str, Any]]) -> dict[str, Any]:
    """A COCO document of pictures of discs."""
    of = dict(zip(SHAPES, ids, strict=True))
    pictures = {
        f"{number:012}.png": (
            pixels.shape[:2],
            [(of[name], x1, y1, x2 - x1, y2 - y1) for name, x1, y1, x2, y2 in boxes],
        )
        for number, (pixels, boxes) in enumerate(drawn)
    }
    return sets.document(pictures, categories)


def beep(digit: int, random: np.random.Generator, *, rate: int) -> np.ndarray:
    """A digit's own tone in noise; those of two digits differ by more than a change of speed brings."""
    time = np.arange(round(random.uniform(0.2, 0.3) * rate)) / rate
    tone = np.sin(2 * np.pi * 200 * 1.36**digit * time) * np.hanning(len(time)) ** 0.3
    return 0.3 * tone + 0.01 * random.normal(size=len(time))


def write_beeps(root: Path, last: int) -> None:
    """Tones as one speaker's digits, named as the free-spoken-digit-dataset's; each has numbers 0 to `last` - 1."""
    folder, random = root / "free-spoken-digit-dataset/recordings", np.random.default_rng(0)
    folder.mkdir(parents=True)
    for digit in range(10):
        for index in range(last):
            soundfile.write(folder / f"{digit}_beep_{index}.wav", beep(digit, random, rate=8000), 8000)


def write_utterances(root: Path, counts: dict[str, int], words: int = 2) -> dict[str, list[dict[str, str]]]:
    """Recordings of some of four tones, each said as a digit's name: `audio` and `text` of each, by part."""
    random = np.random.default_rng(0)
    rows: dict[str, list[dict[str, str]]] = {part: [] for part in counts}
    for part, count in counts.items():
        (root / part).mkdir(parents=True)
        for number in range(count):
            digits = random.integers(0, 4, words)
            wave = np.concatenate([beep(digit, random, rate=16_000) for digit in digits])
            soundfile.write(root / part / f"{number}.flac", wave, 16_000)
            text = " ".join(DIGITS[digit] for digit in digits)
            rows[part].append({"audio": f"{part}/{number}.flac", "text": text})
    return rows


def write_manifest(root: Path, counts: dict[str, int]) -> None:
    """They as `<part>.csv`, and a `tokenizer.json`."""
    for part, rows in write_utterances(root, counts).items():
        lines = ["audio,text", *(f"{row['audio']},{row['text']}" for row in rows)]
        (root / f"{part}.csv").write_text("\n".join(lines) + "\n")
    write_tokenizer(root / "tokenizer.json")


def write_sentences(root: Path, counts: dict[str, int]) -> None:
    """They as the embedded sentences lie, without the times of words."""
    facts = {"words": [], "voice": "beep", "rate": 170, "pitch": 50, "snr": 30.0, "t60": 0.0, "noise": "white"}
    for part, rows in write_utterances(root / "spoken_sentences", counts).items():
        lines = [json.dumps({**row, **facts}) for row in rows]
        (root / "spoken_sentences" / f"{part}.jsonl").write_text("\n".join(lines) + "\n")


def write_etth1(root: Path) -> None:
    """`ETT-small/ETTh1.csv`: seven channels of a day, a week and a trend, under noise."""
    times = np.arange("2016-07-01", "2018-06-26", dtype="datetime64[h]")[:17_420]
    hours, random = np.arange(len(times))[:, None], np.random.default_rng(0)
    phases = np.linspace(0, 2, len(_COLUMNS))
    values = 3 * np.sin(2 * np.pi * hours / 24 + phases) + 3 * np.sin(2 * np.pi * hours / 168 + phases) + hours / 2000
    values = (values + random.normal(0, 0.5, values.shape)).round(3)
    rows = (
        f"{str(time).replace('T', ' ')}:00:00,{','.join(map(str, row))}"
        for time, row in zip(times, values, strict=True)
    )
    (root / "ETT-small").mkdir()
    (root / "ETT-small/ETTh1.csv").write_text("\n".join([f"date,{','.join(_COLUMNS)}", *rows]) + "\n")

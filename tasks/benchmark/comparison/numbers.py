"""The numbers of a comparison's report and how they are written: the same in every table, picture and page."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tasks.benchmark.measure import MEBIBYTE

Report = Mapping[str, Any]
Entry = Mapping[str, Any]
Cell = Mapping[str, Any]

NONE = "–"
"""Stands where there is no number."""

RATES = ("accuracy", "accuracy_top5", "wer", "cer")
"""Metrics that are shares of a whole and written in percent."""


class Estimate(NamedTuple):
    """A value and its spread: a standard deviation on each side, or the quartiles."""

    value: float
    low: float
    high: float


def groups(report: Report) -> list[tuple[Entry, list[Cell]]]:
    """Each entry with its cells, in the report's order."""
    return [
        (entry, [cell for cell in report["cells"] if cell["entry"] == entry["name"]]) for entry in report["entries"]
    ]


def number(values: Any, *path: str) -> float | None:
    """The number at the end of a path; None where a part of it is missing, or where it is not finite.

    >>> number({"train": {"milliseconds": None}}, "train", "milliseconds", "median") is None
    True
    """
    for name in path:
        values = values.get(name) if isinstance(values, Mapping) else None
    return values if isinstance(values, int | float) and math.isfinite(values) else None


def three_digits(value: float) -> str:
    """A number with three digits, or all those before the point.

    >>> three_digits(1234.5), three_digits(12.345), three_digits(0.01234)
    ('1,234', '12.3', '0.0123')
    """
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:,.{min(max(digits, 0), 8)}f}"


@dataclass(frozen=True)
class Quality:
    """How the quality of one entry's cells is written.

    Attributes:
        scale: What a value is multiplied by.
        unit: What stands after it.
        digits: Digits after the point, as many as the least spread needs.
    """

    scale: float
    unit: str
    digits: int

    @classmethod
    def of(cls, entry: Entry, cells: Sequence[Cell]) -> "Quality":
        """Chooses unit and digits for an entry."""
        rate = entry["metric"].rsplit("/", 1)[-1] in RATES
        scale = 100.0 if rate else 1.0
        means = [abs(mean) * scale for cell in cells if (mean := number(cell, "quality", "mean"))]
        spreads = [std * scale for cell in cells if (std := number(cell, "quality", "std"))]
        least = 1 if rate else min(max(2 - math.floor(math.log10(max(means, default=1.0))), 0), 5)
        needed = -math.floor(math.log10(min(spreads))) if spreads else 0
        return cls(scale, " %" if rate else "", min(max(least, needed), least + 2))

    def text(self, value: float | None) -> str:
        """A value with its unit."""
        return NONE if value is None else f"{value * self.scale:,.{self.digits}f}{self.unit}"

    def summary(self, cell: Cell) -> str:
        """Mean and standard deviation over the seeds; the mean alone where one seed has no spread."""
        mean, std = number(cell, "quality", "mean"), number(cell, "quality", "std")
        if mean is None or std is None:
            return self.text(mean)
        return f"{mean * self.scale:,.{self.digits}f} ± {self.text(std)}"

    def estimate(self, cell: Cell) -> Estimate | None:
        """Mean and standard deviation in the unit."""
        mean, std = number(cell, "quality", "mean"), number(cell, "quality", "std") or 0.0
        return None if mean is None else Estimate(*(self.scale * each for each in (mean, mean - std, mean + std)))


def seeds(cell: Cell) -> str:
    """How many seeds stand behind a cell's quality."""
    count = sum(number(run, "quality") is not None for run in cell["runs"])
    return f"{count} seed{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class Measure:
    """A measured column of the tables.

    Attributes:
        title: Its head.
        unit: Its unit.
        path: Where the value stands in a cell; the median where it has quartiles.
        scale: What the value is multiplied by to be in the unit.
        best: Chooses the best of some values; None where there is none.
        share: Where its relation to full attention stands, and what the relation says.
    """

    title: str
    unit: str
    path: tuple[str, ...]
    scale: float = 1.0
    best: Callable[[Iterable[float]], float] | None = min
    share: tuple[tuple[str, ...], str] | None = None

    def estimate(self, cell: Cell) -> Estimate | None:
        """Value and quartiles in the unit; a value without quartiles has no spread."""
        value = number(cell, *self.path)
        ends = [number(cell, *self.path[:-1], name) for name in ("first_quartile", "third_quartile")]
        low, high = (value if end is None else end for end in ends)
        if value is None or low is None or high is None:
            return None
        return Estimate(value * self.scale, low * self.scale, high * self.scale)

    def text(self, cell: Cell) -> str:
        """The value without its unit."""
        found = self.estimate(cell)
        return NONE if found is None else three_digits(found.value)

    def share_text(self, cell: Cell) -> str:
        """The relation to full attention; empty where it is not known, of the reference itself, and of equal sizes."""
        ratio = number(cell, *self.share[0]) if self.share else None
        if self.share is None or ratio is None or cell["attention"] == "full":
            return ""
        text = f"{ratio:.2f}"
        return "" if self.best is None and text == "1.00" else f"{text}× {self.share[1]}"


PARAMETERS = Measure("parameters", "", ("parameters",), best=None, share=(("parameters_to_full",), "as many"))
FLOPS = Measure("FLOPs", "MFLOPs a sample", ("flops",), 1e-6)
THROUGHPUT = Measure(
    "training",
    "samples/s",
    ("train", "samples_per_second", "median"),
    best=max,
    share=(("train", "full_time_by_its", "median"), "as fast"),
)
STEP = Measure("train step", "ms", ("train", "milliseconds", "median"))
LATENCY = Measure(
    "latency",
    "ms a sample",
    ("inference", "milliseconds", "median"),
    share=(("inference", "full_time_by_its", "median"), "as fast"),
)
MEMORY = Measure(
    "peak memory", "MiB of a train step", ("peak_bytes",), 1 / MEBIBYTE, share=(("memory_to_full",), "as much")
)
MEASURES = (PARAMETERS, FLOPS, THROUGHPUT, LATENCY, MEMORY)
"""The columns of the tables."""

COSTS = {"flops": FLOPS, "train": STEP, "latency": LATENCY, "memory": MEMORY}
"""What quality is drawn against."""


def best_qualities(entry: Entry, cells: Sequence[Cell]) -> set[str]:
    """The attentions with an entry's best mean; a cell of which a run failed cannot have it."""
    means = {cell["attention"]: number(cell, "quality", "mean") for cell in cells if cell["status"] == "done"}
    return _best(means, max if entry["higher_is_better"] else min)


def best_measures(measure: Measure, cells: Sequence[Cell]) -> set[str]:
    """The attentions with the best value of a measure."""
    return _best({cell["attention"]: number(cell, *measure.path) for cell in cells}, measure.best)


def _best(values: Mapping[str, float | None], choose: Callable[[Iterable[float]], float] | None) -> set[str]:
    known = {name: value for name, value in values.items() if value is not None}
    if choose is None or len(set(known.values())) < 2:  # who is alone, or like all others, is not best
        return set()
    best = choose(known.values())
    return {name for name, value in known.items() if value == best}


GAINS, LOSSES = ("better", "faster", "less"), ("worse", "slower", "more")


def standing(cell: Cell) -> list[tuple[str, str]]:
    """What the verdict says of quality, time and memory, in this order; nothing for the reference itself."""
    words = [(what, (cell.get("verdict") or {}).get(what) or "unknown") for what in ("quality", "time", "memory")]
    return [] if all(word == "reference" for _, word in words) else words


def loses(cell: Cell) -> bool:
    """Whether the cell is behind full attention in anything."""
    return any(word in LOSSES for _, word in standing(cell))


def trouble(cell: Cell) -> str:
    """Why something is missing from a cell; empty if nothing is."""
    parts = [] if cell["status"] == "done" else [f"{cell['status']}: {cell.get('reason') or 'no reason is known'}"]
    return "; ".join(parts + ([f"cost: {cell['cost_reason']}"] if cell.get("cost_reason") else []))

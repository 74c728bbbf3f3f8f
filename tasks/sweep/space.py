"""What a sweep tries for each argument, from `--space NAME=VALUES`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.errors import UsageError

FIXED = ("config", "runs", "ckpt_path", "seed_everything", "training.monitor", "training.monitor_mode")
"""Arguments that all trials have in common."""
QUIET = ("trainer.logger", "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.limit_test_batches")
"""Arguments that a sweep sets itself."""
Values = dict[str, str]
"""Of each argument that is varied its value, as the command line has it."""


@dataclass(frozen=True)
class Choice:
    """One of some values, each as the command line has it."""

    name: str
    values: tuple[str, ...]

    @property
    def size(self) -> float:
        """How many values there are."""
        return len(self.values)

    @property
    def samples(self) -> tuple[str, ...]:
        """Values that stand for all, to see whether the argument takes them."""
        return self.values

    def at(self, share: float) -> str:
        """The value at a share in [0, 1) of the way."""
        return self.values[int(share * len(self.values))]

    def written(self, value: str) -> str:
        """A value as the command line has it."""
        return value


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`, both included, all equally likely; whole if both are."""

    name: str
    low: float
    high: float

    @property
    def whole(self) -> bool:
        """Whether only whole numbers count."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def size(self) -> float:
        """How many values there are."""
        return self.high - self.low + 1 if self.whole else math.inf

    @property
    def samples(self) -> tuple[str, ...]:
        """Values that stand for all, to see whether the argument takes them."""
        return self.written(self.low), self.written(self.high)

    def at(self, share: float) -> str:
        """The value at a share in [0, 1) of the way."""
        low, high = self._ends()
        return self.written(low + share * (high - low))

    def written(self, value: float) -> str:
        """A number as the command line has it: four digits are enough to find it, and can be read."""
        number = round(value) if self.whole else float(f"{value:.4g}")
        return str(min(max(number, self.low), self.high))

    def _ends(self) -> tuple[float, float]:
        """Where a whole number's share of the line begins and ends, so that the first and last have a whole one."""
        return (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)


class LogRange(Range):
    """The same with each order of magnitude equally likely."""

    def at(self, share: float) -> str:
        """The value at a share in [0, 1) of the way."""
        low, high = (math.log(end) for end in self._ends())
        return self.written(math.exp(low + share * (high - low)))


Dimension = Choice | Range


def parse_space(texts: Sequence[str]) -> tuple[Dimension, ...]:
    """Reads what `--space` was given.

    Raises:
        UsageError: If one cannot be understood, or an argument is there twice or not a trial's own; one line.
    """
    space = tuple(_dimension(text) for text in texts)
    names = [each.name for each in space]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--space {name} is there {names.count(name)} times; say all its values in one")
    return space


def _dimension(text: str) -> Dimension:
    name, equals, values = text.partition("=")
    name, values = name.strip().lstrip("-"), values.strip()
    if not (name and equals and values):
        raise UsageError(f"--space {text}: is not NAME=VALUES, as training.optimizer.lr=log:1e-4..1e-2")
    if name in FIXED:
        raise UsageError(f"--space {text}: all trials have the same {name}; give it as --{name}=VALUE")
    if name in QUIET:
        raise UsageError(f"--space {text}: a sweep sets {name} itself")
    if values.startswith("log:"):
        low, high = _ends(text, values.removeprefix("log:"))
        if low <= 0:
            raise UsageError(f"--space {text}: {low} has no logarithm; a range by log: begins above 0")
        return LogRange(name, low, high)
    if ".." in values and "," not in values:
        return Range(name, *_ends(text, values))
    return Choice(name, _choices(text, values))


def _ends(text: str, values: str) -> tuple[float, float]:
    first, _, last = values.partition("..")
    low, high = _number(first), _number(last)
    if low is None or high is None:
        raise UsageError(f"--space {text}: {values} is not LOW..HIGH, two numbers as 0.0..0.3")
    if low >= high:
        raise UsageError(f"--space {text}: {low} is not less than {high}")
    return low, high


def _number(text: str) -> float | None:
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number) else None
    return None


def _choices(text: str, values: str) -> tuple[str, ...]:
    """Splits at commas, but not at those within brackets: a list can be a value."""
    choices, depth = [""], 0
    for letter in values:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            choices.append("")
        else:
            choices[-1] += letter
    unlike = tuple(dict.fromkeys(choice.strip() for choice in choices))
    if "" in unlike:
        raise UsageError(f"--space {text}: has an empty value")
    if len(unlike) < 2:
        raise UsageError(f"--space {text}: is one value; say two or more, or a range LOW..HIGH")
    return unlike

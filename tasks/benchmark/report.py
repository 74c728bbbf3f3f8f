"""What every benchmark tells of its numbers: quartiles by name."""

from collections.abc import Sequence

from tasks.benchmark.measure import quartiles


def spread(values: Sequence[float]) -> dict[str, float]:
    """Quartiles by name."""
    return dict(zip(("first_quartile", "median", "third_quartile"), quartiles(values), strict=True))


def written(values: dict[str, float], digits: int) -> str:
    """A spread's text, median first.

    >>> written({"first_quartile": 1.0, "median": 2.0, "third_quartile": 4.0}, 1)
    '2.0 [1.0, 4.0]'
    """
    median, first, third = (values[name] for name in ("median", "first_quartile", "third_quartile"))
    return f"{median:.{digits}f} [{first:.{digits}f}, {third:.{digits}f}]"


def rounds_of(times: dict[str, list[float]]) -> list[dict[str, float]]:
    """Turns columns into rounds."""
    return [dict(zip(times, values, strict=True)) for values in zip(*times.values(), strict=True)]

"""What both pictures of the scaling curves need: whose curves there are, and where one crosses full attention's."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.benchmark.attention.plan import direction
from tasks.benchmark.attention.rows import MEASURED, Row, measured
from tasks.benchmark.comparison.numbers import number


def curve_names(rows: Sequence[Row], causal: bool) -> list[str]:
    """Who was measured at a length at least, in the rows' order."""
    return list(
        dict.fromkeys(row["attention"] for row in rows if row["causal"] == causal and row["status"] == MEASURED)
    )


def crossing_point(rows: Sequence[Row], crossover: Mapping[str, Any]) -> tuple[float, float] | None:
    """Where a curve of time is marked: length and seconds, between two lengths on the straight line of the logarithms.

    Args:
        rows: The rows of all curves.
        crossover: The attention, its direction and its length.

    Returns:
        None where the attention is faster at none or at each of the measured lengths: nothing crosses there.
    """
    curve = {
        length: row["seconds"]
        for length, row in sorted(measured(rows, crossover["attention"], crossover["causal"]).items())
        if (number(row, "seconds") or 0) > 0
    }
    length = number(crossover, "length")
    if length is None or not curve or not min(curve) < length <= max(curve):
        return None
    above = min(each for each in curve if each >= length)
    below = max(each for each in curve if each < length)
    share = math.log(length / below) / math.log(above / below)
    return length, curve[below] ** (1 - share) * curve[above] ** share


def crossover_text(crossover: Mapping[str, Any]) -> str:
    """One sentence on one crossover."""
    where = crossover.get("where") or "at lengths not known"
    return f"{crossover['attention']}, {direction(crossover['causal'])}: faster than {crossover['against']} {where}"

"""What a curve over lengths says: how fast it grows, and from where on it is the lower one."""

import math
import statistics
from collections.abc import Mapping

LONG = 4096
"""From this length on a layer's fixed costs no longer hide how its time grows."""


def exponent(values: Mapping[int, float]) -> tuple[float, tuple[int, ...]] | None:
    """The growth exponent: slope of the least-squares line through log(value) over log(length).

    Args:
        values: Seconds or bytes by length.

    Returns:
        The exponent, and over which lengths: those from `LONG` on if there are two, else all; None for a single one.

    >>> exponent({1024: 9.0, 4096: 1.0, 8192: 4.0})
    (2.0, (4096, 8192))
    """
    lengths = tuple(sorted(length for length in values if length >= LONG))
    if len(lengths) < 2:
        lengths = tuple(sorted(values))
    if len(lengths) < 2:
        return None
    slope, _ = statistics.linear_regression(
        [math.log(length) for length in lengths], [math.log(values[length]) for length in lengths]
    )
    return slope, lengths


def crossover(ratios: Mapping[int, float]) -> float | None:
    """The smallest length from which on a mechanism is faster.

    Args:
        ratios: The other's time by the mechanism's, by length.

    Returns:
        Between the last length at which it is not faster and the next, on the line that joins their ratios on
        logarithmic axes; the shortest length if it is faster at all; None if it is not faster at the longest.

    >>> crossover({1024: 0.5, 2048: 0.25, 8192: 4.0})
    4096.0
    """
    lengths = sorted(ratios)
    slower = [place for place, length in enumerate(lengths) if ratios[length] <= 1]
    if not lengths or (slower and slower[-1] == len(lengths) - 1):
        return None
    if not slower:
        return float(lengths[0])
    below, above = lengths[slower[-1]], lengths[slower[-1] + 1]
    share = math.log(ratios[below]) / (math.log(ratios[below]) - math.log(ratios[above]))
    return below * (above / below) ** share

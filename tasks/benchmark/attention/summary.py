"""What the rows say: growth, crossovers, and above all where a mechanism loses."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.benchmark.attention.growth import crossover, exponent
from tasks.benchmark.attention.plan import OURS, PEERS, direction
from tasks.benchmark.attention.rows import MEASURED, Row, measured


def summarise(rows: Sequence[Row], reference: str) -> dict[str, Any]:
    """Exponents, crossovers and notes.

    Args:
        rows: All rows.
        reference: Who counts as full attention.
    """
    curves = {(row["attention"], row["causal"]): measured(rows, row["attention"], row["causal"]) for row in rows}
    exponents, crossovers = {}, {}
    for curve, own in curves.items():
        name = dict(zip(("attention", "causal"), curve, strict=True))
        growth = exponent({length: row["seconds"] for length, row in own.items()})
        if growth:
            exponents[curve] = name | {"exponent": growth[0], "lengths": growth[1]}
        ratios = {length: row["ratio_to_full"]["median"] for length, row in own.items() if row["ratio_to_full"]}
        if ratios and curve[0] != "full":
            length = crossover(ratios)
            crossovers[curve] = name | {"against": reference, "length": length, "where": _where(length, ratios)}
    return {
        "reference": reference,
        "exponents": list(exponents.values()),
        "crossovers": list(crossovers.values()),
        "notes": [
            *(_course(curve, own, exponents.get(curve), crossovers.get(curve)) for curve, own in curves.items()),
            *_all_losses(curves, reference),
            *(_absence(row) for row in rows if row["status"] != MEASURED),
        ],
    }


def _where(length: float | None, ratios: Mapping[int, float]) -> str:
    if length is None:
        return "at none of the measured lengths"
    return "at every measured length" if length == min(ratios) else f"from length {length:.0f} on"


def _course(
    curve: tuple[str, bool],
    own: Mapping[int, Row],
    growth: Mapping[str, Any] | None,
    crossing: Mapping[str, Any] | None,
) -> str:
    """One line on one curve: how it grows, from where on it wins, how far it is from what cannot be avoided."""
    parts = []
    if growth:
        lengths = ", ".join(str(length) for length in growth["lengths"])
        parts.append(f"time grows with length^{growth['exponent']:.2f} (lengths {lengths})")
    if crossing:
        parts.append(f"faster than {crossing['against']} {crossing['where']}")
    if own and (over_floor := own[max(own)]["over_floor"]):
        parts.append(f"{over_floor['median']:.2f} times its floor at length {max(own)}")
    return f"{_name(*curve)}: " + ("; ".join(parts) or "not measured")


def _name(attention: str, causal: bool) -> str:
    return f"{attention} {direction(causal)}"


def _all_losses(curves: Mapping[tuple[str, bool], Mapping[int, Row]], reference: str) -> Iterator[str]:
    for (attention, causal), own in curves.items():
        if attention in OURS:
            rivals = [other for other in dict.fromkeys((reference, *PEERS)) if other != attention]
            found = {other: curves.get((other, causal), {}) for other in rivals}
            for line in _losses(own, found, reference):
                yield f"{_name(attention, causal)} {line}"


def _losses(own: Mapping[int, Row], rivals: Mapping[str, Mapping[int, Row]], reference: str) -> Iterator[str]:
    """Where one of ours is slower, or needs more memory, than full attention or a peer."""
    met, lost = False, False
    for other, theirs in rivals.items():
        slower, larger = [], []
        for length in sorted(own.keys() & theirs.keys()):
            met, row = True, own[length]
            ratio = row["ratio_to_full"] if other == reference else row["ratio_to_peers"][other]
            memory = row["peak_bytes"] / theirs[length]["peak_bytes"]
            slower += [f"{length} ({1 / ratio['median']:.3f}x its time)"] if ratio["median"] < 1 else []
            larger += [f"{length} ({memory:.3f}x its peak)"] if memory > 1 else []
        for what, where in (("time", slower), ("memory", larger)):
            if where:
                lost = True
                yield f"loses to {other} in {what} at {', '.join(where)}"
    if met and not lost:
        yield "loses nowhere"


def _absence(row: Row) -> str:
    return f"{_name(row['attention'], row['causal'])} at length {row['length']}: {row['status']}, {row['reason']}"

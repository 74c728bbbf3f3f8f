"""From what the processes measured to rows: one for each attention at each length, causal and not."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.benchmark.attention.plan import PEERS, Shape, direction
from tasks.benchmark.measure import MEBIBYTE
from tasks.benchmark.report import spread, written

Row = dict[str, Any]
MEASURED, SKIPPED, FAILED = "measured", "skipped", "failed"
CSV_COLUMNS = (
    "attention",
    "length",
    "causal",
    "status",
    "seconds",
    "first_quartile",
    "third_quartile",
    "peak_bytes",
    "floor_seconds",
    "over_floor",
    "ratio_to_full",
    "memory_to_full",
    "reason",
)
COLUMNS = ("length", "direction", "attention", "ms", "x floor", "full's time by its", "MiB", "by full's")


def rows_of(
    shape: Shape,
    names: Sequence[str],
    results: Sequence[Mapping[str, Any]],
    refused: Mapping[str, tuple[str, str]],
    reference: str,
) -> list[Row]:
    """Makes the rows of one length.

    Args:
        shape: The layer and its sequence.
        names: Who should take part, in order.
        results: What `measure_layers` gave in each process.
        refused: Status and reason of those that did not take part, or not to the end.
        reference: Who counts as full attention.
    """
    seconds = {name: [result["seconds"][name] for result in results] for name in names if name not in refused}
    peaks = {name: statistics.median_high(result["peak_bytes"][name] for result in results) for name in seconds}
    rows = []
    for name in names:
        row: Row = {"attention": name, "length": shape.length, "causal": shape.causal}
        if name in refused:
            status, reason = refused[name]
            rows.append(row | {"status": status, "reason": reason})
            continue
        floors = [result["floor_seconds"][name] for result in results if result["floor_seconds"][name]]
        times = spread(pooled(seconds[name]))
        others = {other: ratio(seconds[other], seconds[name]) for other in seconds if other != name}
        rows.append(
            row
            | {
                "status": MEASURED,
                "reason": None,
                "seconds": times["median"],
                "quartiles": [times["first_quartile"], times["third_quartile"]],
                "peak_bytes": peaks[name],
                "floor_seconds": spread(pooled(floors))["median"] if floors else None,
                "over_floor": ratio(seconds[name], floors) if floors else None,
                "ratio_to_full": others.get(reference),
                "ratio_to_peers": {other: others[other] for other in PEERS if other in others and other != reference},
                "memory_to_full": peaks[name] / peaks[reference] if reference in peaks else None,
                "rounds": seconds[name],
            }
        )
    return rows


def ratio(of: Sequence[Sequence[float]], by: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Ratios taken inside each round, where both sides met the same machine.

    Args:
        of: Seconds of the numerator, a list for each process.
        by: Seconds of the denominator.

    Returns:
        Quartiles over all rounds of all processes, and the median of each process.
    """
    processes = [[a / b for a, b in zip(*pair, strict=True)] for pair in zip(of, by, strict=True)]
    return {**spread(pooled(processes)), "processes": [statistics.median(each) for each in processes]}


def measured(rows: Sequence[Row], attention: str, causal: bool) -> dict[int, Row]:
    """An attention's measured rows by length."""
    return {
        row["length"]: row
        for row in rows
        if (row["attention"], row["causal"], row["status"]) == (attention, causal, MEASURED)
    }


def cells(row: Row) -> list[str]:
    """A row's text, in the order of `COLUMNS`; - where nothing is to be said."""
    start = [str(row["length"]), direction(row["causal"]), row["attention"]]
    if row["status"] != MEASURED:
        return [*start, row["status"], "-", "-", "-", "-"]
    times = dict(zip(("first_quartile", "third_quartile"), row["quartiles"], strict=True)) | {"median": row["seconds"]}
    return [
        *start,
        written({name: value * 1e3 for name, value in times.items()}, 2),
        f"{row['over_floor']['median']:.2f}" if row["over_floor"] else "-",
        written(row["ratio_to_full"], 3) if row["ratio_to_full"] else "-",
        f"{row['peak_bytes'] / MEBIBYTE:.1f}",
        f"{row['memory_to_full']:.3f}" if row["memory_to_full"] else "-",
    ]


def csv_rows(rows: Sequence[Row]) -> Iterator[list[object]]:
    """The rows in the order of `CSV_COLUMNS`, ratios by their medians."""
    for row in rows:
        flat = row | dict(zip(("first_quartile", "third_quartile"), row.get("quartiles", ()), strict=False))
        flat |= {name: row[name]["median"] for name in ("over_floor", "ratio_to_full") if row.get(name)}
        yield [flat.get(name) for name in CSV_COLUMNS]


def pooled(processes: Sequence[Sequence[float]]) -> list[float]:
    """The values of all processes, one after the other."""
    return [value for values in processes for value in values]

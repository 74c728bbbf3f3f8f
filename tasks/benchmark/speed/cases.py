"""What is measured: each task's network at its sizes, beside a peer's implementation of the same network.

A task's cases are imported when they are asked for: every measuring process would wait for what others import.
"""

from collections.abc import Callable

from tasks.benchmark.measure import Case


def _vit() -> tuple[Case, ...]:
    from tasks.benchmark.speed.vit_cases import VIT_CASES

    return VIT_CASES


def _core() -> tuple[Case, ...]:
    from tasks.benchmark.speed.core_cases import CORE_CASES

    return CORE_CASES


def _detr() -> tuple[Case, ...]:
    from tasks.benchmark.speed.detection_cases import DETR_CASES

    return DETR_CASES


def _asr() -> tuple[Case, ...]:
    from tasks.benchmark.speed.speech_cases import SPEECH_CASES

    return SPEECH_CASES


def _forecast() -> tuple[Case, ...]:
    from tasks.benchmark.speed.forecast_cases import FORECAST_CASES

    return FORECAST_CASES


CASES: dict[str, Callable[[], tuple[Case, ...]]] = {
    "vit": _vit,
    "core": _core,
    "detr": _detr,
    "asr": _asr,
    "forecast": _forecast,
}
"""What gives the cases of a task."""

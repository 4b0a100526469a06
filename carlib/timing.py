"""What things cost: seconds of calls that take turns, and memory.

A machine is never quiet. Calls that are compared take turns, so that what else runs hurts all of
them alike, and what is told is their ratio, round by round.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path


def taking_turns(
    ways: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of every call, one entry per round; the rounds to warm up are left out.

    A call that works on a GPU waits for it before it returns.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(warm_up + rounds):
        for name, call in ways.items():
            started = time.perf_counter()
            call()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """The middle of the rounds of every call."""
    return {name: statistics.median(values) for name, values in seconds.items()}


def ratios(seconds: Mapping[str, list[float]], ours: str) -> dict[str, list[float]]:
    """How many times as fast as each other call `ours` is, round by round: "ours / other"."""
    return {
        f"{ours} / {name}": [b / a for a, b in zip(seconds[ours], values, strict=True)]
        for name, values in seconds.items()
        if name != ours
    }


def memory() -> int:
    """Bytes that this process holds for itself now, without files that it has mapped (Linux)."""
    resident, shared = Path("/proc/self/statm").read_text(encoding="utf-8").split()[1:3]
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")

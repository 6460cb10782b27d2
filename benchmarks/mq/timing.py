"""CPU and wall time of a stretch of work, and the line a case's process prints."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence


class Stretch:
    """From `begin` to `end`: prints what `count` messages cost."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._cpu = self._wall = 0.0

    def begin(self) -> None:
        """The work starts now."""
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def end(self) -> None:
        """The work is done."""
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        print(json.dumps({"cpu": cpu / self._count * 1e6, "rate": self._count / wall}))


def print_latencies(seconds: Sequence[float]) -> None:
    """p50 and p99 in milliseconds."""
    ordered = sorted(seconds)
    print(json.dumps({"p50": ordered[len(ordered) // 2] * 1e3, "p99": ordered[len(ordered) * 99 // 100] * 1e3}))


def print_span(seconds: float) -> None:
    """One duration in milliseconds."""
    print(json.dumps({"span": seconds * 1e3}))

"""Interleaved rounds of CPU time, medians and spread, ratios within one run."""

from __future__ import annotations

import asyncio
import gc
import os
import platform
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Run = Callable[[int], Awaitable[None]]
"""Carries a number of messages from publish to handled."""


@dataclass
class Case:
    """One thing that is measured. `make` prepares it and returns its `Run`; `count` messages a round."""

    name: str
    make: Callable[[], Awaitable[tuple[Run, Callable[[], Awaitable[None]]]]]
    count: int
    samples: list[float] = field(default_factory=list)  # CPU microseconds a message

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, relative to the median."""
        low, _, high = statistics.quantiles(self.samples, n=4)
        return (high - low) / 2 / self.median


async def measure(cases: list[Case], rounds: int) -> None:
    """Every case once a round, so that a slow minute of the machine hits all of them."""
    prepared = [(case, *await case.make()) for case in cases]
    for case, run, _ in prepared:  # warm-up
        await run(max(200, case.count // 10))
    for _ in range(rounds):
        for case, run, _ in prepared:
            case.samples.append(await one_round(run, case.count))
    for _, _, close in prepared:
        await close()


async def one_round(run: Run, count: int) -> float:
    """CPU microseconds a message of this process."""
    gc.collect()
    await asyncio.sleep(0)
    before = time.process_time()
    await run(count)
    return (time.process_time() - before) / count * 1e6


def machine() -> str:
    """The interpreter and the machine, to be named beside every figure."""
    interpreter = f"{platform.python_implementation()} {sys.version}".replace("\n", " ")
    return f"{interpreter}, {platform.machine()}, {os.cpu_count()} cores, {platform.system()}"

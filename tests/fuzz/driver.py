"""Runs a target on inputs that a seed draws: errors, memory, and work that grows faster than the input."""

from __future__ import annotations

import time
import traceback
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from tests.fuzz.mutations import repeated
from tests.fuzz.target import Target

_SIZE = 32 * 1024  # bytes of the smallest input whose work is measured
_LONG = 0.004  # seconds of CPU, below which nothing is said of how they grow
_MOST = 3.0  # times the work for twice the size
_CHECKS = 50  # one in so many is measured


@dataclass(frozen=True, slots=True)
class Failure:
    """What an input did. `kind` is the same for all inputs that do the same."""

    target: str
    kind: str
    data: bytes
    detail: str


@dataclass(slots=True)
class Outcome:
    """What the runs of a target came to. `failures`: the first of each kind."""

    name: str
    executions: int = 0
    seconds: float = 0.0
    failures: dict[str, Failure] = field(default_factory=dict)

    def __str__(self) -> str:
        rate = self.executions / self.seconds if self.seconds else 0.0
        return f"{self.name:24}{self.executions:>10,} executions {rate:>9,.0f}/s   {len(self.failures)} failures"


def fuzz(target: Target, seed: int, *, most: int = 1 << 62, seconds: float = 1e9, measured: bool = True) -> Outcome:
    """Run it so often, or so long. `measured`: look at memory and work too."""
    outcome = Outcome(target.name)
    began = time.monotonic()
    for number in range(most):
        random = Random(f"{seed}:{target.name}:{number}")
        data = target.draw(random)
        failure = error_of(target, data)
        if failure is None and measured and number % _CHECKS == 0:
            failure = memory_of(target, data)
            if failure is None and "work" not in outcome.failures:
                failure = work_of(target, random, data)
        if failure is not None and failure.kind not in outcome.failures:
            outcome.failures[failure.kind] = failure
        outcome.executions += 1
        outcome.seconds = time.monotonic() - began
        if outcome.seconds > seconds:
            break
    return outcome


def error_of(target: Target, data: bytes) -> Failure | None:
    """Whether it raises what it may not."""
    try:
        target.run(data)
    except target.allowed:
        return None
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/msgbus/" in frame.filename]
        where = f"{frames[-1].filename.rpartition('/msgbus/')[2]}: {frames[-1].name}" if frames else "the target"
        return Failure(target.name, f"{type(error).__name__} in {where}", data, f"{error!r:.300}")
    return None


def memory_of(target: Target, data: bytes) -> Failure | None:
    """Whether it takes more than it may, on its second run: what it remembers for good is bounded elsewhere."""
    allowed = target.factor * len(data) + target.room
    tracemalloc.start()
    try:
        error_of(target, data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return Failure(target.name, "memory", data, f"{peak:,} bytes, allowed {allowed:,}") if peak > allowed else None


def work_of(target: Target, random: Random, data: bytes) -> Failure | None:
    """Whether it fails with a large input, or twice the size is more than three times the work, and so once more."""
    grown = repeated(random, data, _SIZE)
    if target.grow and random.random() < 0.5:
        grow = random.choice(target.grow)
        grown = lambda times: grow(_SIZE * times)  # noqa: E731 - the same by another way
    if (failure := error_of(target, grown(1))) is not None:
        return failure
    if not (_grows(target, grown, 1) and all(_grows(target, grown, 5) for _ in range(2))):
        return None
    costs = [_cost(target, grown(times), 3) for times in (1, 2, 4)]
    said = ", ".join(f"{cost * 1000:.1f} ms" for cost in costs)
    return Failure(target.name, "work", grown(1), f"{said} of CPU for 1, 2 and 4 times {_SIZE:,} bytes")


def _grows(target: Target, grown: Callable[[int], bytes], tries: int) -> bool:
    once, twice = (_cost(target, grown(times), tries) for times in (1, 2))
    return twice > _LONG and twice > _MOST * once and _cost(target, grown(4), tries) > _MOST * twice


def _cost(target: Target, data: bytes, tries: int) -> float:
    return min(_seconds(target, data) for _ in range(tries))


def _seconds(target: Target, data: bytes) -> float:
    began = time.thread_time()
    error_of(target, data)
    return time.thread_time() - began


def shrunk(target: Target, failure: Failure) -> Failure:
    """The smallest input found that fails alike, without what can be left out."""
    if failure.kind in ("memory", "work"):
        return failure
    step = len(failure.data) // 2
    while step:
        at = 0
        while at < len(failure.data):
            less = error_of(target, failure.data[:at] + failure.data[at + step :])
            if less is not None and less.kind == failure.kind:
                failure = less
            else:
                at += step
        step //= 2
    return failure

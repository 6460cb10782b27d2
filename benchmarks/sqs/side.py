"""One side in a process of its own: `python -m benchmarks.sqs.side NAME ENDPOINT QUEUE`, told on stdin what to do.

Each command is a line such as "send 100"; each answer is a line of JSON.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from benchmarks.sqs.payload import Order

Handle = Callable[[Order], None]


class Side(Protocol):
    """A client of one queue, as its module's `open_side(endpoint, queue)` gives it."""

    async def send(self, count: int) -> None:
        """Send `count` messages; each is confirmed when this returns."""
        ...

    async def send_one(self) -> None:
        """Send one message, at once."""
        ...

    def consuming(self, handle: Handle) -> AbstractAsyncContextManager[None]:
        """While inside, receive, decode, handle and delete."""
        ...


class Counter:
    """What the handlers do: count, and note when the last one came."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.latencies: list[float] = []
        self.done = asyncio.Event()
        self.came = asyncio.Event()
        self.at = 0.0
        self._loop = asyncio.get_running_loop()

    def handle(self, order: Order) -> None:
        """In the thread of the event loop."""
        self.left -= 1
        if self.left == 0:
            self.at = time.perf_counter()
            self.done.set()

    def handle_timed(self, order: Order) -> None:
        """In any thread: how long it was under way."""
        self.latencies.append(time.perf_counter() - order.sent)
        self._loop.call_soon_threadsafe(self.came.set)


@asynccontextmanager
async def measured(count: int) -> AsyncIterator[dict[str, float]]:
    """CPU of this process a message, and messages a second until `at`, or until the end."""
    cpu, wall = time.process_time(), time.perf_counter()
    figures: dict[str, float] = {}
    yield figures
    ended = figures.pop("at", 0.0) or time.perf_counter()
    figures |= {"cpu": (time.process_time() - cpu) / count * 1e6, "rate": count / (ended - wall)}


async def send(side: Side, count: int) -> dict[str, float]:
    """All at once, as fast as it goes."""
    async with measured(count) as figures:
        await side.send(count)
    return figures


async def consume(side: Side, count: int) -> dict[str, float]:
    """As many as are there. The CPU includes what comes after the last one: its deletion, and the end of the polls."""
    counter = Counter(count)
    async with measured(count) as figures:
        async with side.consuming(counter.handle):
            await counter.done.wait()
        figures["at"] = counter.at
    return figures


async def flow(side: Side, count: int) -> dict[str, float]:
    """Sent and consumed at the same time."""
    counter = Counter(count)
    async with measured(count) as figures:
        async with side.consuming(counter.handle):
            await asyncio.gather(side.send(count), counter.done.wait())
        figures["at"] = counter.at
    return figures


async def latency(side: Side, count: int) -> dict[str, float]:
    """One at a time, 100 a second at most."""
    counter = Counter(count)
    async with side.consuming(counter.handle_timed):
        for number in range(-10, count):  # the first ten warm up
            if number == 0:
                counter.latencies.clear()
            counter.came.clear()
            await side.send_one()
            await asyncio.wait_for(counter.came.wait(), 10.0)
            await asyncio.sleep(0.01)
    ordered = sorted(counter.latencies)
    return {"p50": ordered[count // 2] * 1e3, "p99": ordered[count * 99 // 100] * 1e3}


async def memory(side: Side, count: int) -> dict[str, float]:
    """MiB in use when a tenth of `count` messages that wait was consumed, and after all of them."""
    for _ in range(10):
        await side.send(count // 10)
    tenth, rest = Counter(count // 10), Counter(count - count // 10)
    async with side.consuming(lambda order: (tenth if tenth.left > 0 else rest).handle(order)):
        await tenth.done.wait()
        early = _resident()
        await rest.done.wait()
    return {"early": early, "late": _resident()}


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


WORKS: dict[str, Any] = {"send": send, "consume": consume, "flow": flow, "latency": latency, "memory": memory}


async def main(name: str, endpoint: str, queue: str) -> None:
    logging.disable(logging.WARNING)
    module = importlib.import_module(f"benchmarks.sqs.{name}")
    async with module.open_side(endpoint, queue) as side:
        print("{}", flush=True)
        while line := (await asyncio.to_thread(sys.stdin.readline)).split():
            print(json.dumps(await WORKS[line[0]](side, int(line[1]))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

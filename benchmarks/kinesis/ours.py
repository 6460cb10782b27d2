"""msgbus: CloudEvents with ids and times, leases and checkpoints in DynamoDB."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from urllib.parse import quote

from benchmarks.kinesis.payload import BATCH, PAUSE, Order, handle, order
from msgbus import Bus, Limits, Topic

_IN_FLIGHT = 4


class Side:
    """Opened once, used round after round."""

    options = ""
    ordered = False
    bare = False

    def __init__(self, endpoint: str, stream: str) -> None:
        options = f"rate=0&poll={PAUSE}&start=oldest&endpoint={quote(endpoint, safe='')}{self.options}"
        self._topic = Topic(stream, Order, key="customer", ordered=self.ordered, bare=self.bare)
        self._bus = Bus(f"kinesis://us-east-1?{options}")
        self._stack = AsyncExitStack()
        self._handled: Callable[[], None] = lambda: None

    async def open(self, work: str) -> None:
        """`work`: send or consume."""
        if work == "consume":
            limits = Limits(concurrency=8, prefetch=1000)
            self._bus.subscriber(self._topic, group="bench", limits=limits)(self._handle)
            await self._stack.enter_async_context(self._bus.consuming())
        else:
            await self._stack.enter_async_context(self._bus)

    async def close(self) -> None:
        """Free the leases."""
        await self._stack.aclose()

    async def send(self, count: int) -> None:
        """Four calls in flight, as the raw loop has."""
        starts = iter(range(0, count, BATCH))

        async def work() -> None:
            for start in starts:
                numbers = range(start, min(count, start + BATCH))
                await self._bus.publish_many(self._topic, list(map(order, numbers)))

        await asyncio.gather(*(work() for _ in range(_IN_FLIGHT)))

    def listen(self, handled: Callable[[], None]) -> None:
        """Told after each record."""
        self._handled = handled

    async def _handle(self, order: Order) -> None:
        await handle(order)
        self._handled()


class Aggregated(Side):
    """Records of one shard together, in the format of the Kinesis Producer Library."""

    options = "&aggregate=on"


class Bare(Side):
    """Bodies without an envelope, so without ids and times, as the raw loop writes them."""

    bare = True


class Ordered(Side):
    """Order per key demanded: at most one unconfirmed record of a key, and a lane for each key."""

    ordered = True

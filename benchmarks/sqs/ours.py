"""msgbus: a whole Bus on `sqs://`, with its defaults."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

from benchmarks.sqs.payload import BATCH, REGION, SENDERS, WAIT, Order, order
from benchmarks.sqs.side import Handle
from msgbus import Bus, Queue, brokers
from msgbus.config import Settings

brokers.BUILT_IN.setdefault("sqs", ("msgbus.brokers.sqs", "SqsBroker", "aws"))


class Ours:
    """A bus with one consumer."""

    def __init__(self, url: str, queue: str) -> None:
        self.bus = Bus(settings=Settings(url=url, provision="trust", routes={}))
        self._queue = Queue(queue, Order)
        self._handle: Handle

        @self.bus.consumer(self._queue)
        async def consume(order: Order) -> None:
            self._handle(order)

    async def send(self, count: int) -> None:
        numbers = iter(range(count))

        async def work() -> None:
            while batch := [order(number) for number in itertools.islice(numbers, BATCH)]:
                await self.bus.publish_many(self._queue, batch)

        await asyncio.gather(*(work() for _ in range(SENDERS)))

    async def send_one(self) -> None:
        await self.bus.send(self._queue, order(0))

    @asynccontextmanager
    async def consuming(self, handle: Handle) -> AsyncIterator[None]:
        self._handle = handle
        async with self.bus.consuming():
            yield


@asynccontextmanager
async def open_side(endpoint: str, queue: str) -> AsyncIterator[Ours]:
    ours = Ours(f"sqs://{REGION}?wait={WAIT}&endpoint={quote(endpoint, safe='')}", queue)
    async with ours.bus:
        yield ours

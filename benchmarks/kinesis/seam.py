"""The broker of msgbus without its core: bytes in, bytes out, leases and checkpoints kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from urllib.parse import quote

from benchmarks.kinesis.payload import BATCH, BODY, KEYS, PAUSE
from msgbus.broker import Binding, QueueSpec, Receiver, TopicSpec
from msgbus.brokers.kinesis import KinesisBroker
from msgbus.clock import SystemClock
from msgbus.message import Act, Address, Outgoing, Receipt, Settlement, Source

_IN_FLIGHT = 4


class Side:
    """Opened once, used round after round."""

    def __init__(self, endpoint: str, stream: str) -> None:
        options = f"rate=0&poll={PAUSE}&start=oldest&endpoint={quote(endpoint, safe='')}"
        self._source = Source("topic", stream, "bench")
        self._broker = KinesisBroker(f"kinesis://us-east-1?{options}", clock=SystemClock())
        self._stack = AsyncExitStack()
        self._loop: asyncio.Task[None] | None = None
        self._handled: Callable[[], None] = lambda: None

    async def open(self, work: str) -> None:
        """`work`: send or consume."""
        await self._broker.connect()
        self._stack.push_async_callback(self._broker.close)
        if work == "consume":
            name = self._source.name
            parts = [TopicSpec(name), QueueSpec(self._source), Binding(name, self._source)]
            await self._broker.admin.ensure(parts, "create")
            receiver = await self._stack.enter_async_context(self._broker.receiver(self._source, prefetch=1000))
            self._loop = asyncio.create_task(self._read(receiver))

    async def close(self) -> None:
        """Free the leases."""
        if self._loop is not None:
            self._loop.cancel()
        await self._stack.aclose()

    async def send(self, count: int) -> None:
        """Four calls in flight."""
        starts = iter(range(0, count, BATCH))
        address = Address("topic", self._source.name)

        async def work() -> None:
            for start in starts:
                numbers = range(start, min(count, start + BATCH))
                batch = [Outgoing(address, str(n), BODY, {}, f"customer-{n % KEYS}") for n in numbers]
                results = await self._broker.send(batch)
                assert all(isinstance(result, Receipt) for result in results)

        await asyncio.gather(*(work() for _ in range(_IN_FLIGHT)))

    def listen(self, handled: Callable[[], None]) -> None:
        """Told after each record."""
        self._handled = handled

    async def _read(self, receiver: Receiver) -> None:
        while True:
            batch = await receiver.receive(1000, 10.0)
            await receiver.settle([Settlement(delivery, Act.ACK) for delivery in batch])
            for _ in batch:
                self._handled()

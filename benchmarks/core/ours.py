"""msgbus: publish to handled, with a validated pydantic model, on the embedded broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from pydantic import BaseModel

from benchmarks.core.harness import Run
from msgbus import Bus, Limits, Topic, brokers
from msgbus.broker import Receiver
from msgbus.brokers.memory import MemoryBroker
from msgbus.message import Settlement, Source

Close = Callable[[], Awaitable[None]]
BATCH = 100


class _SuspendingReceiver:
    def __init__(self, inner: Receiver) -> None:
        self._inner = inner
        self.address = inner.address
        self.receive, self.extend, self.stop = inner.receive, inner.extend, inner.stop

    async def settle(self, batch: Sequence[Settlement]) -> Sequence[Any]:
        await asyncio.sleep(0)
        return await self._inner.settle(batch)


class SuspendingBroker(MemoryBroker):
    """The embedded broker, whose `send` and `settle` give up the loop once each, as every network broker's do."""

    async def send(self, batch: Any) -> Any:
        await asyncio.sleep(0)
        return await super().send(batch)

    def receiver(self, source: Source, *, prefetch: int) -> AbstractAsyncContextManager[Any]:
        opened = super().receiver(source, prefetch=prefetch)

        @asynccontextmanager
        async def suspending() -> Any:
            async with opened as receiver:
                yield _SuspendingReceiver(receiver)

        return suspending()


class Setup:
    """A bus with one subscriber that counts, and the ways to publish to it."""

    def __init__(
        self,
        payload: BaseModel,
        *,
        suspending: bool = False,
        lanes: bool = False,
        limits: Limits | None = None,
        **bus: Any,
    ) -> None:
        self.payload = payload
        kind = type(payload)
        self.topic: Topic[Any] = Topic("bench", kind, key="customer_id", ordered=lanes)
        if suspending:
            brokers.BUILT_IN["suspending"] = ("benchmarks.core.ours", "SuspendingBroker", "")
        self.bus = Bus("suspending://" if suspending else "memory://", **bus)
        self.handled = 0
        self.wanted = 0
        self.done: asyncio.Event = asyncio.Event()

        @self.bus.subscriber(self.topic, group="g", limits=limits)
        async def handle(message: Any) -> None:
            self.handled += 1
            if self.handled == self.wanted:
                self.done.set()

    async def open(self) -> Close:
        context = self.bus.consuming()
        await context.__aenter__()

        async def close() -> None:
            await context.__aexit__(None, None, None)

        return close

    def expect(self, count: int) -> None:
        self.done.clear()
        self.wanted = self.handled + count

    async def many(self, count: int) -> None:
        """`publish_many` of 100, one after the other."""
        self.expect(count)
        batch = [self.payload] * BATCH
        for _ in range(count // BATCH):
            await self.bus.publish_many(self.topic, batch)
        await self.done.wait()

    async def tasks(self, count: int) -> None:
        """100 tasks that publish one by one each."""
        self.expect(count)

        async def publisher() -> None:
            for _ in range(count // BATCH):
                await self.bus.publish(self.topic, self.payload)

        await asyncio.gather(*(publisher() for _ in range(BATCH)))
        await self.done.wait()

    async def one_by_one(self, count: int) -> None:
        self.expect(count)
        for _ in range(count):
            await self.bus.publish(self.topic, self.payload)
        await self.done.wait()

    async def round_trip(self, count: int) -> None:
        """Publish and wait until it is handled, then the next."""
        for _ in range(count):
            self.expect(1)
            await self.bus.publish(self.topic, self.payload)
            await self.done.wait()


def case(mode: str, payload: BaseModel, **options: Any) -> Callable[[], Awaitable[tuple[Run, Close]]]:
    """What a Case's `make` needs for one mode: "many", "tasks", "one_by_one" or "round_trip"."""

    async def make() -> tuple[Run, Close]:
        setup = Setup(payload, **options)
        close = await setup.open()
        run: Run = getattr(setup, mode)
        return run, close

    return make


def floor(payload: BaseModel, *, turn: bool = False) -> Callable[[], Awaitable[tuple[Run, Close]]]:
    """What a service would write by hand: encode, decode with validation, await the handler.

    With pydantic's public methods, as its docs show. `turn` adds one turn of the event loop.
    """
    kind = type(payload)

    async def make() -> tuple[Run, Close]:
        async def handle(message: BaseModel) -> None: ...

        async def run(count: int) -> None:
            for _ in range(count):
                await handle(kind.model_validate_json(payload.model_dump_json().encode()))
                if turn:
                    await asyncio.sleep(0)

        async def close() -> None: ...

        return run, close

    return make

"""A test's workbench: connected brokers, names of its own, bounded waits."""

# ruff: noqa: S101 - assertions are what a test suite is made of

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack

from msgbus import headers as h
from msgbus.broker import Broker, Capabilities, Receiver, Result
from msgbus.bus import Bus
from msgbus.config import Settings
from msgbus.envelope.fitting import fitter
from msgbus.envelope.opening import opener
from msgbus.errors import Disconnected, Throttled, Unavailable
from msgbus.handlers.topology import parts_of
from msgbus.message import Act, Address, Delivery, Outgoing, Receipt, Settlement, Source
from msgbus.publishing.link import Link
from msgbus.publishing.middleware import PublishMiddleware
from msgbus.testing.conformance.harness import Harness

INBOX = Source("reply", "inbox")
FIRST_FAILED = "1700000000.000"

_GLANCE = 0.05  # seconds of one look at one of several receivers
_EARLY = 0.01  # seconds that two clocks may differ
_LATE = 0.5  # seconds that a delay may be late beyond `retry_resolution`: whoever is late by a second is found
_TRIES = 6


class Lab:
    """One test's view of the harness's server. What it opens is closed when the test ends."""

    link: Link
    broker: Broker
    can: Capabilities

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.prefix = f"c{uuid.uuid4().hex[:10]}-"
        self._numbers = itertools.count()
        self._stack = AsyncExitStack()
        self._open: dict[int, AsyncExitStack] = {}

    async def start(self) -> None:
        """Connect the first broker."""
        self.link = await self._connect()
        self.broker = self.link.broker
        self.can = self.broker.capabilities()

    async def close(self) -> None:
        """Close all that was opened, and have the harness remove what is left of it."""
        try:
            for stack in self._open.values():
                await stack.aclose()
            await self._stack.aclose()
        finally:
            await self.harness.clean(self.prefix)

    def now(self) -> float:
        """Monotonic seconds, on the harness's clock."""
        return self.harness.clock.now()

    def time(self) -> float:
        """Unix time, on the harness's clock."""
        return self.harness.clock.time()

    async def second(self) -> Broker:
        """Another connected broker on the same server."""
        return (await self._connect()).broker

    async def _connect(self) -> Link:
        link = Link(self.harness.broker(), self.harness.url, self.harness.clock)
        await link.connect(self.harness.patience)
        self._stack.push_async_callback(link.close)
        return link

    # -- sources

    def queue(self, name: str = "queue", *, ordered: bool = False) -> Source:
        """A queue's source, not declared."""
        return Source("queue", self.prefix + name, ordered=ordered)

    def group(self, group: str = "g", *, topic: str = "topic", ordered: bool = False) -> Source:
        """A source of a topic's group, not declared."""
        return Source("topic", self.prefix + topic, group, ordered=ordered)

    async def home(self, *, ordered: bool = False, short: bool = False) -> Source:
        """A declared source: a queue, or a topic's group where there are no queues. `short`: with a short lease."""
        source = self.queue(ordered=ordered) if self.can.queues else self.group(ordered=ordered)
        return await self.declare(source, short=short)

    def other(self) -> Source:
        """A source that shares nothing with `home`, not declared."""
        return self.queue("other") if self.can.queues else self.group("other", topic="other")

    async def declare(self, source: Source, *, short: bool = False, max_deliveries: int | None = None) -> Source:
        """Create what `source` needs."""
        lease = self.harness.lease if short and self.broker.capabilities(source).lease is not None else None
        await self.broker.admin.ensure(parts_of(source, max_deliveries, lease), "create")
        return source

    # -- sending

    def out(
        self,
        to: Source | Address,
        body: bytes | int,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        content_type: str = "application/octet-stream",
        delay: float = 0.0,
        id: str | None = None,  # noqa: A002 - the message's id
    ) -> Outgoing:
        """A message with the headers that a Bus writes. To a topic's source: to all its groups."""
        message_id = id or f"{self.prefix}{next(self._numbers)}"
        head = {h.SPEC: "1.0", h.ID: message_id, h.TYPE: "Test", h.SOURCE: "conformance", h.CONTENT_TYPE: content_type}
        if key is not None:
            head[h.KEY] = key
        address = Address(to.kind, to.name) if isinstance(to, Source) else to
        data = str(body).encode() if isinstance(body, int) else body
        return Outgoing(address, message_id, data, {**head, **(headers or {})}, key, delay, lane=key)

    def fit(self, *outs: Outgoing) -> Sequence[Outgoing]:
        """Put messages into what the broker can carry, as a Bus does."""
        fit = fitter("conformance", self.can)
        for out in outs:
            if fit is not None:
                fit(out)
        return outs

    async def try_send(self, *outs: Outgoing) -> Sequence[Result]:
        """Send through envelope and batcher, so within the broker's limits; one result per entry."""
        async with asyncio.timeout(self.harness.patience):
            return await self.link.send(self.fit(*outs))

    async def send(self, *outs: Outgoing) -> None:
        """Send; every entry must be accepted."""
        results = await self.try_send(*outs)
        assert [result for result in results if not isinstance(result, Receipt)] == []
        assert len(results) == len(outs)

    async def send_numbers(self, to: Source, numbers: Sequence[int], key: str | None = None) -> None:
        """Send messages whose bodies are numbers."""
        await self.send(*(self.out(to, number, key=key) for number in numbers))

    # -- receiving

    async def open(self, source: Source, broker: Broker | None = None, prefetch: int = 100) -> Receiver:
        """Open a receiver; `leave` it, or it is left when the test ends."""
        stack = AsyncExitStack()
        receiver = await stack.enter_async_context((broker or self.broker).receiver(source, prefetch=prefetch))
        self._open[id(receiver)] = stack
        return receiver

    async def leave(self, receiver: Receiver) -> None:
        """Close a receiver."""
        await self._open.pop(id(receiver)).aclose()

    async def receive(self, receiver: Receiver, limit: int, wait: float) -> Sequence[Delivery]:
        """One `receive`, opened as a Bus does; [] where the broker asks to call again."""
        open_ = opener(self.can)
        try:
            batch = await receiver.receive(min(limit, self.can.receive_batch), wait)
        except (Throttled, Unavailable):
            await asyncio.sleep(_GLANCE)
            return []
        for delivery in batch:
            if open_ is not None:
                open_(delivery)
        return batch

    async def some(self, receiver: Receiver, most: int) -> list[Delivery]:
        """Receive at least one message, unsettled."""
        end = self.now() + self.harness.patience
        while not (batch := await self.receive(receiver, most, max(0.0, end - self.now()))):
            assert self.now() < end, f"none of {most} messages came in time"
            await asyncio.sleep(0)
        return list(batch)

    async def collect(self, receiver: Receiver, count: int) -> list[Delivery]:
        """Receive exactly `count` messages, unsettled."""
        return [delivery for _, delivery in await self.collect_any([receiver], count)]

    async def collect_any(self, receivers: Sequence[Receiver], count: int) -> list[tuple[Receiver, Delivery]]:
        """Receive `count` messages from several receivers; which one got what."""
        got: list[tuple[Receiver, Delivery]] = []
        wait = self.harness.patience if len(receivers) == 1 else _GLANCE
        end = self.now() + self.harness.patience
        for receiver in itertools.cycle(receivers):
            if len(got) == count:
                break
            left = end - self.now()
            assert left > 0, f"{len(got)} of {count} messages came in time: {[d.body[:50] for _, d in got]}"
            batch = await self.receive(receiver, count - len(got), min(left, wait))
            got += [(receiver, delivery) for delivery in batch]
        return got

    async def nothing(self, receiver: Receiver, seconds: float | None = None) -> None:
        """Nothing comes for a while."""
        end = self.now() + (self.harness.quiet if seconds is None else seconds)
        while (left := end - self.now()) > 0:
            batch = await self.receive(receiver, 10, left)
            assert [delivery.body[:50] for delivery in batch] == []
            await asyncio.sleep(min(max(0.0, end - self.now()), _GLANCE))  # a stopped receiver does not wait

    async def empty(self, source: Source) -> None:
        """Nothing is left in `source`: a new receiver gets nothing."""
        receiver = await self.open(source)
        await self.nothing(receiver)
        await self.leave(receiver)

    async def takes(self, once: Callable[[], Awaitable[None]], delay: float) -> None:
        """`once` never takes less than `delay` seconds, and not always much more.

        A busy machine is late now and then; who waits too long is late every time.
        """
        took: list[float] = []
        for _ in range(_TRIES):
            began = self.now()
            await once()
            took.append(self.now() - began)
            assert took[-1] >= delay - _EARLY
            if took[-1] <= delay + self.can.retry_resolution + _LATE:
                return
        raise AssertionError(f"late every time: a delay of {delay:g} s took {took}")

    # -- settling

    async def settle(self, receiver: Receiver, batch: Sequence[Settlement]) -> None:
        """Settle; every entry must be accepted."""
        limit = self.can.settle_batch
        for start in range(0, len(batch), limit):
            results = await receiver.settle(batch[start : start + limit])
            assert list(results) == [None] * len(batch[start : start + limit])

    async def ack(self, receiver: Receiver, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge them all."""
        await self.settle(receiver, [Settlement(delivery, Act.ACK) for delivery in deliveries])

    async def drain(self, source: Source, count: int) -> list[Delivery]:
        """Receive and acknowledge exactly `count` messages with a receiver of its own."""
        receiver = await self.open(source)
        deliveries: list[Delivery] = []
        while len(deliveries) < count:
            batch = await self.some(receiver, count - len(deliveries))
            await self.ack(receiver, batch)  # as it comes: a broker may lock a key whose messages are in hand
            deliveries += batch
        await self.nothing(receiver)
        await self.leave(receiver)
        return deliveries

    # -- connections and buses

    async def reconnect(self) -> None:
        """Connect the first broker again."""
        async with asyncio.timeout(self.harness.patience):
            while True:
                try:
                    await self.broker.connect()
                except (Disconnected, Unavailable, Throttled):
                    await asyncio.sleep(_GLANCE)
                else:
                    return

    def bus(self, *, concurrency: int = 8, publish_middlewares: Sequence[PublishMiddleware] = ()) -> Bus:
        """A new Bus on the harness's broker, its names apart from those of other tests."""
        settings = Settings(
            url=self.harness.url,
            prefix=self.prefix,
            provision="create",
            routes={},
            concurrency=concurrency,
            publish_timeout=self.harness.patience,
            connect_timeout=self.harness.patience,
            grace=self.harness.patience,
        )
        return Bus(settings=settings, clock=self.harness.clock, publish_middlewares=publish_middlewares)


def bodies(deliveries: Sequence[Delivery]) -> list[bytes]:
    """Their bodies, in order."""
    return [delivery.body for delivery in deliveries]


def numbers(deliveries: Sequence[Delivery]) -> list[int]:
    """Bodies that are numbers, in order."""
    return [int(delivery.body) for delivery in deliveries]


def retries(delivery: Delivery, delay: float = 0.0) -> Settlement:
    """RETRY with the headers that the core gives."""
    headers = {h.ATTEMPT: str(delivery.attempt + 1), h.FIRST_FAILED: FIRST_FAILED}
    return Settlement(delivery, Act.RETRY, delay, headers=headers)

"""The embedded broker as its clients see it: MemoryBroker and MemoryReceiver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict

from msgbus.broker import Capabilities, Status
from msgbus.brokers.hiding import parts_of, shown
from msgbus.brokers.memory.admin import MemoryAdmin
from msgbus.brokers.memory.hub import Hub, HubOptions
from msgbus.brokers.memory.queue import MemoryQueue
from msgbus.brokers.memory.stored import Stored
from msgbus.brokers.urls import query_of
from msgbus.clock import Clock
from msgbus.errors import BusError, ConfigError, Disconnected, LeaseLost, ReceiverClosed, Refused
from msgbus.message import Act, Address, Delivery, Outgoing, Receipt, Settlement, Source

_YIELD_EVERY = 100  # sends: a broker that never suspends starves everybody else on the loop
_BATCH = 1000


class MemoryBroker:
    """`memory://[NAME][?option=value...]`; the options are those of HubOptions."""

    def __init__(self, url: str = "memory://", *, clock: Clock, hub: Hub | None = None) -> None:
        self.hub = hub or Hub.named(parts_of(url).netloc, _options(url), clock)
        self._leases: dict[Address, float] = {}
        self.admin = MemoryAdmin(self.hub, self._leases)
        self._connected = False
        self._receivers: dict[MemoryReceiver, None] = {}  # in the order in which they were opened
        self._sent = 0

    async def connect(self) -> None:
        """Always works."""
        self._connected = True

    async def close(self) -> None:
        """What its receivers hold goes back to the queues."""
        self._connected = False
        for receiver in list(self._receivers):
            receiver.close(Disconnected("closed"))

    def capabilities(self, source: Source | None = None) -> Capabilities:
        """The same for every source, but for the lease: its receivers ask for what is said here."""
        options = self.hub.options
        return Capabilities(
            send_batch=_BATCH,
            send_slots=4,
            send_order="connection",
            send_delay=30 * 86400.0,
            message_bytes=options.max_bytes,
            binary=True,
            dedup_window=options.dedup or None,
            expiry=True,
            receive_batch=_BATCH,
            order="key",
            lease=options.lease if source is None else self._lease(source),
            lease_extends=True,
            counts_deliveries=True,
            release_counts=False,
            settle_batch=_BATCH,
            settle_linger=0.001,
            confirms_settlement=True,
            retry_delay=30 * 86400.0,
            retry_resolution=0.01,
            retry_keeps_order=True,
            dead_letters=True,
            fanout=True,
            queues=True,
            reply=True,
            inboxes=r"inbox-\d+",
            replay=bool(options.replay),
            backlog="all",
            shared=False,
        )

    def _lease(self, source: Source) -> float:
        """Once said it stays, whatever others make of the queue meanwhile: heartbeats follow it."""
        queue = self.hub.queues.get(source.address)
        return self._leases.setdefault(source.address, self.hub.options.lease if queue is None else queue.lease)

    def status(self) -> Status:
        """Connected, as long as it is open."""
        return Status(self._connected, reason="" if self._connected else "not connected")

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Receipt | BusError]:
        """Store each entry; a full queue is waited for, up to a second."""
        if not self._connected:
            raise Disconnected("the embedded broker is not connected")
        results: list[Receipt | BusError] = []
        accept, now = self.hub.accept, self.hub.clock.time()
        for out in batch:
            result = accept(out, now)
            if isinstance(result, MemoryQueue):
                result = await self.hub.room_for(out, result)
            results.append(result)
        self._sent += len(batch)
        if self._sent >= _YIELD_EVERY:
            self._sent = 0
            await asyncio.sleep(0)
        return results

    @asynccontextmanager
    async def receiver(self, source: Source, *, prefetch: int) -> AsyncIterator[MemoryReceiver]:
        """Open a source; a reply inbox is made here and gone at the exit."""
        if not self._connected:
            raise Disconnected("the embedded broker is not connected")
        own = self.hub.new_inbox() if source.kind == "reply" else source
        if source.kind != "reply" and source.address not in self.hub.queues:
            raise Refused(f"{source} is not there: with MSGBUS_PROVISION=create it is made at start")
        receiver = MemoryReceiver(self.hub.queue(own), self.hub, prefetch, self._lease(source))
        self._receivers[receiver] = None
        try:
            yield receiver
        finally:
            del self._receivers[receiver]
            receiver.close(ReceiverClosed("closed"))
            if source.kind == "reply":
                self.hub.drop(own)


class MemoryReceiver:
    """A competing consumer of one queue."""

    def __init__(self, queue: MemoryQueue, hub: Hub, prefetch: int, lease: float) -> None:
        self.unsettled = 0
        self.lease = lease
        self._prefetch = prefetch
        self.address = queue.source.name if queue.source.kind == "reply" else ""
        self._queue = queue
        self._hub = hub
        self._stopped = False
        self._closed: BusError | None = None

    async def receive(self, limit: int, wait: float) -> Sequence[Delivery]:
        """Takes at the last moment, so a cancelled call holds nothing."""
        batch = self._take(limit)
        if batch or wait <= 0 or self._stopped:
            return batch
        await self._queue.receivers.wait(wait)
        return self._take(limit)

    def _take(self, limit: int) -> list[Delivery]:
        if self._closed is not None:
            raise self._closed
        room = 0 if self._stopped else min(limit, self._prefetch - self.unsettled)
        return self._queue.take(room, self) if room > 0 else []

    async def settle(self, batch: Sequence[Settlement]) -> Sequence[BusError | None]:
        """Each settlement takes effect at once."""
        if self._closed is not None:
            return [LeaseLost("the receiver is closed")] * len(batch)
        queue = self._queue
        results: list[BusError | None] = []
        released: list[Stored] = []
        for settlement in batch:
            stored: Stored = settlement.delivery.token
            if stored.delivery is not settlement.delivery or stored.holder is not self:
                results.append(LeaseLost(f"{queue.source}: the lease ran out"))
                continue
            if settlement.act is Act.ACK:
                queue.remove(stored)
            elif settlement.act is Act.RELEASE:
                stored.deliveries -= 1
                stored.attempt = settlement.delivery.attempt
                released.append(stored)
            else:
                self._settle_failure(stored, settlement)
            results.append(None)
        if released:
            queue.give_back(released)
        if self.unsettled + len(batch) >= self._prefetch:  # a `receive` may wait for this
            queue.receivers.wake_all()
        return results

    def _settle_failure(self, stored: Stored, settlement: Settlement) -> None:
        if settlement.act is Act.DEAD:
            self._queue.remove(stored)
            self._hub.bury(self._queue.source, stored, settlement.reason, settlement.headers)
            return
        stored.headers = {**stored.headers, **(settlement.headers or {})}
        stored.attempt = settlement.delivery.attempt + 1
        self._queue.retry(stored, settlement.delay)

    async def extend(self, batch: Sequence[Delivery], seconds: float) -> Sequence[BusError | None]:
        """Takes effect at once."""
        results: list[BusError | None] = []
        for delivery in batch:
            if self._queue.holds(delivery, self):
                self._queue.leases.extend(delivery.token, seconds)
                results.append(None)
            else:
                results.append(LeaseLost(f"{self._queue.source}: the lease ran out"))
        return results

    async def stop(self) -> None:
        """A waiting `receive` returns."""
        self._stopped = True
        self._queue.receivers.wake_all()

    def close(self, why: BusError) -> None:
        """What it holds goes back; every later call says `why`."""
        if self._closed is None:
            self._closed = why
            self._queue.give_up([stored for stored in self._queue.in_flight if stored.holder is self])
            self._queue.receivers.wake_all()


def _options(url: str) -> HubOptions:
    defaults = asdict(HubOptions())
    for name, text in query_of(url):
        if name not in defaults:
            raise ConfigError(f"{shown(url)}: no option {name!r}; there are {', '.join(defaults)}")
        kind = type(defaults[name])
        try:
            defaults[name] = kind(text)
        except ValueError as error:
            raise ConfigError(f"{shown(url)}: {name}={text!r} is no {kind.__name__}") from error
    return HubOptions(**defaults)

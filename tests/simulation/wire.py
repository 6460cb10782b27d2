"""Between a bus and its broker: a network that takes time and ends with its process, and a judge of what is asked."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from tests.simulation.ledger import Ledger
from tests.simulation.profiles import Profile

from msgbus.broker import Admin, Capabilities, Receiver, Status
from msgbus.brokers.memory import MemoryBroker
from msgbus.brokers.memory.hub import Hub
from msgbus.clock import Clock
from msgbus.errors import BusError, LeaseLost
from msgbus.message import Act, Delivery, Outgoing, Receipt, Settlement, Source
from msgbus.testing.faults import FaultyBroker, id_of


class ModelBroker(MemoryBroker):
    """The embedded broker with the claims of another one."""

    def __init__(self, hub: Hub, profile: Profile, clock: Clock) -> None:
        super().__init__(clock=clock, hub=hub)
        self._profile = profile

    def capabilities(self, source: Source | None = None) -> Capabilities:
        """The model's."""
        return self._profile.of(ordered=source is not None and source.ordered)


class Wire:
    """The Broker that a process has. Once it is `dead`, nothing that the process still does reaches the broker.

    A process acts on the world through its wire alone, so cutting it for ever is what a crash is to everybody else,
    at whatever await of the process it happens.
    """

    def __init__(self, name: str, inner: FaultyBroker, ledger: Ledger, latency: float, seed: int) -> None:
        self.name = name
        self.inner = inner
        self.ledger = ledger
        self.dead = False
        self._latency = latency
        self._random = random.Random(seed)
        self._calls: Counter[str] = Counter()
        self._lanes: Counter[str] = Counter()
        self._silence: list[asyncio.Future[None]] = []
        self._left: list[object] = []
        self._opened = 0

    @property
    def admin(self) -> Admin:
        """Topology has no faults."""
        return self.inner.admin

    async def connect(self) -> None:
        """Connect, late or never."""
        await self.travel()
        await self.inner.connect()
        await self.travel()

    async def close(self) -> None:
        """At once; a dead one is closed by the broker."""
        if not self.dead:
            await self.inner.close()

    def capabilities(self, source: Source | None = None) -> Capabilities:
        """The model's."""
        return self.inner.capabilities(source)

    def status(self) -> Status:
        """The model's."""
        return Status(False, reason="dead") if self.dead else self.inner.status()

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Receipt | BusError]:
        """Send what may be sent so."""
        can = self.capabilities()
        self.demand(0 < len(batch) <= can.send_batch, f"a batch of {len(batch)} is sent, allowed are {can.send_batch}")
        lanes = [f"{out.address} {out.lane}" for out in batch if out.lane is not None and can.send_order == "gated"]
        self._lanes.update(lanes)
        self.demand(all(self._lanes[lane] == 1 for lane in lanes), "two of one key are out at once")
        try:
            async with self.call("send", can.send_slots):
                return await self.inner.send(batch)
        finally:
            self._lanes.subtract(lanes)

    @asynccontextmanager
    async def receiver(self, source: Source, *, prefetch: int) -> AsyncIterator[WireReceiver]:
        """Open a receiver; where its process dies, its end is the broker's."""
        await self.travel()
        opening: AbstractAsyncContextManager[Receiver] = self.inner.receiver(source, prefetch=prefetch)
        receiver = WireReceiver(self, await opening.__aenter__(), source, self.capabilities(source), prefetch)
        try:
            yield receiver
            receiver.judge_the_end()
        finally:
            if self.dead:
                self._left.append(opening)
            else:
                await opening.__aexit__(None, None, None)

    def die(self) -> None:
        """From now on nothing comes through."""
        self.dead = True
        self._note_in_hand()

    async def fade(self, seconds: float) -> None:
        """The broker notices after so many seconds, and gives back what leases have not yet."""
        memory = self.inner.inner
        assert isinstance(memory, MemoryBroker)
        for receiver in list(memory._receivers):
            await receiver.stop()  # it waits for nothing any more
        await self.inner.clock.sleep(seconds)
        self._note_in_hand()
        await memory.close()

    def _note_in_hand(self) -> None:
        for receiver in list(self.inner._receivers):
            receiver.note_in_hand()

    # -- for the receivers too

    def opened(self) -> int:
        """The number of another receiver."""
        self._opened += 1
        return self._opened

    async def travel(self) -> None:
        """As long as it takes; for ever once the process is dead."""
        if self._latency:
            await self.inner.clock.sleep(self._random.random() * self._latency)
        if self.dead:
            silence: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._silence.append(silence)  # or nobody would keep the task that waits for it
            await silence

    @asynccontextmanager
    async def call(self, name: str, slots: int) -> AsyncIterator[None]:
        """There and back, with as many others as may be under way."""
        self._calls[name] += 1
        self.demand(self._calls[name] <= slots, f"{self._calls[name]} calls of {name} at once, allowed are {slots}")
        try:
            await self.travel()
            yield
            await self.travel()
        finally:
            self._calls[name] -= 1

    def demand(self, ok: bool, text: str) -> None:
        """The core must not ask for what the broker does not claim."""
        if not ok and not self.dead:
            self.ledger.violated(f"{self.name}: {text}")


class WireReceiver:
    """A Receiver that knows what the core holds, and demands that it is settled once, and while it is held."""

    def __init__(self, wire: Wire, inner: Receiver, source: Source, can: Capabilities, prefetch: int) -> None:
        self.address = inner.address
        self.hand: dict[Delivery, None] = {}
        self._wire = wire
        self._inner = inner
        self._source = source
        self._can = can
        self._prefetch = prefetch
        self._arrived: deque[Delivery] = deque()
        self._settling: dict[Delivery, None] = {}
        self._name = f"{source.origin} #{wire.opened()}"

    async def receive(self, limit: int, wait: float) -> Sequence[Delivery]:
        """What came while a cancelled call was under way is kept."""
        wire, can = self._wire, self._can
        wire.demand(0 < limit <= can.receive_batch, f"receive({limit}), allowed are {can.receive_batch}")
        async with wire.call(f"receive {self._name}", 1):
            if not self._arrived:
                self._arrived.extend(await self._inner.receive(limit, wait))
        batch = [self._arrived.popleft() for _ in range(min(limit, len(self._arrived)))]
        self.hand.update(dict.fromkeys(batch))
        if batch:
            self._note("receives", [f"{self._number(delivery)}/{delivery.deliveries}" for delivery in batch])
        return batch

    async def settle(self, batch: Sequence[Settlement]) -> Sequence[BusError | None]:
        """Settle what is held, as the model can."""
        self._judge(batch)
        self._settling.update((settlement.delivery, None) for settlement in batch)
        results: Sequence[BusError | None] = ()
        try:
            async with self._wire.call(f"settle {self._name}", self._can.settle_slots):
                results = await self._inner.settle(batch)
        finally:
            for settlement in batch:
                self._settling.pop(settlement.delivery, None)
        for settlement, result in zip(batch, results, strict=True):
            if result is None or isinstance(result, LeaseLost):
                self.hand.pop(settlement.delivery, None)
            said = "" if result is None else f": {type(result).__name__}"
            self._note(settlement.act.value, f"{self._number(settlement.delivery)}{said}")
        return results

    def _judge(self, batch: Sequence[Settlement]) -> None:
        can, demand = self._can, self._wire.demand
        demand(0 < len(batch) <= can.settle_batch, f"{len(batch)} are settled at once, allowed are {can.settle_batch}")
        for settlement in batch:
            what = f"{settlement.act.value} of {self._number(settlement.delivery)} from {self._source.origin}"
            demand(settlement.delivery in self.hand, f"{what}, which is not held")
            demand(settlement.delivery not in self._settling, f"{what}, which is being settled")
            if settlement.act is Act.RETRY:
                demand(can.retry_delay is not None, f"{what}, and the broker has no retries")
                demand(can.retry_keeps_order or not self._source.ordered, f"{what}, which breaks the order")

    async def extend(self, batch: Sequence[Delivery], seconds: float) -> Sequence[BusError | None]:
        """Extend what is held."""
        self._wire.demand(self._can.lease_extends, "a lease is extended that can't be")
        async with self._wire.call(f"extend {self._name}", 1):
            results = await self._inner.extend(batch, seconds)
        for delivery, result in zip(batch, results, strict=True):
            if isinstance(result, LeaseLost):
                self.hand.pop(delivery, None)
                self._note("loses", self._number(delivery))
        return results

    def _number(self, delivery: Delivery) -> str:
        return self._wire.ledger.number(id_of(delivery))

    def _note(self, did: str, what: object) -> None:
        self._wire.ledger.note(f"{self._wire.name} {did} {what} {self._name}")

    async def stop(self) -> None:
        """Take nothing new."""
        await self._wire.travel()
        await self._inner.stop()

    def judge_the_end(self) -> None:
        """It is left without an error: by a stop, which gives everything back."""
        held = [self._number(delivery) for delivery in self.hand]
        self._wire.demand(not held, f"{self._source.origin} is left with {held} in hand")
        arrived = [self._number(delivery) for delivery in self._arrived]
        self._wire.demand(not arrived, f"{self._source.origin} is left with {arrived} on the way")

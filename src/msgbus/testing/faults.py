"""A broker that breaks on purpose: wraps another one and makes its promises as hard to rely on as networks do.

    plan = Chance(seed=1, of={Fault.CUT_AFTER_SEND: 0.02, Fault.DUPLICATE: 0.1})
    broker = FaultyBroker(MemoryBroker(clock=clock), plan, clock)

Nothing it does is more than the seam allows a broker to do; `may_repeat` names the messages that a fault may have
doubled, so that a test can tell a duplicate that was caused from one that was not.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from msgbus import headers as h
from msgbus.broker import Admin, Broker, Capabilities, Receiver, Status
from msgbus.clock import Clock
from msgbus.errors import BusError, Disconnected, LeaseLost, ReceiverClosed, Throttled, Unavailable
from msgbus.message import Act, Delivery, Outgoing, Receipt, Settlement, Source
from msgbus.testing.plans import Chance, Fault, Plan, Script

__all__ = ["Chance", "Fault", "FaultyBroker", "FaultyReceiver", "Plan", "Script", "Sizes", "id_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How large the faults are, in seconds."""

    retry_after: float | None = 0.005
    delay: float = 0.005


class FaultyBroker:
    """A Broker that wraps another one.

    `struck` counts the faults; `may_repeat` holds the ids of messages that may be handled twice because of one.
    Order is kept as `order` says. Since entries fail alone, `send_order` becomes "gated".
    """

    def __init__(self, inner: Broker, plan: Plan, clock: Clock, *, sizes: Sizes | None = None, seed: int = 0) -> None:
        self.inner = inner
        self.plan = plan
        self.clock = clock
        self.sizes = sizes or Sizes()
        self.random = random.Random(seed)
        self.struck: Counter[Fault] = Counter()
        self.may_repeat: set[str] = set()
        self._receivers: set[FaultyReceiver] = set()

    @property
    def admin(self) -> Admin:
        """The inner one: topology has no faults."""
        return self.inner.admin

    async def connect(self) -> None:
        """Connect, or be refused."""
        if self.strikes(Fault.REFUSE_CONNECT):
            raise Disconnected("fault: the connection was refused")
        await self.inner.connect()

    async def close(self) -> None:
        """No fault."""
        await self.inner.close()

    def capabilities(self, source: Source | None = None) -> Capabilities:
        """The inner broker's, with entries that fail alone."""
        can = self.inner.capabilities(source)
        return replace(can, send_order="gated") if can.send_order == "connection" else can

    def status(self) -> Status:
        """The inner broker's."""
        return self.inner.status()

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Receipt | BusError]:
        """Send what the plan lets through."""
        await self.pause()
        if self.strikes(Fault.CUT_BEFORE_SEND):
            await self.cut()
            raise Disconnected("fault: cut before the send")
        results: list[Receipt | BusError | None] = [self._entry_error() for _ in batch]
        sent = iter(await self.inner.send([out for out, error in zip(batch, results, strict=True) if error is None]))
        if self.strikes(Fault.CUT_AFTER_SEND):
            self.may_repeat.update(out.id for out, error in zip(batch, results, strict=True) if error is None)
            await self.cut()
            raise Disconnected("fault: cut after the send")
        return [next(sent) if error is None else error for error in results]

    def _entry_error(self) -> BusError | None:
        if self.strikes(Fault.THROTTLE_ENTRY):
            return Throttled("fault: throttled", self.sizes.retry_after)
        if self.strikes(Fault.FAIL_ENTRY):
            return Unavailable("fault: this entry failed")
        return None

    @asynccontextmanager
    async def receiver(self, source: Source, *, prefetch: int) -> AsyncIterator[FaultyReceiver]:
        """Open a receiver with faults."""
        async with self.inner.receiver(source, prefetch=prefetch) as inner:
            receiver = FaultyReceiver(self, inner, source)
            self._receivers.add(receiver)
            try:
                yield receiver
            finally:
                self._receivers.discard(receiver)
                receiver.note_in_hand()

    # -- for the receivers, and for tests that break things by hand

    def strikes(self, fault: Fault) -> bool:
        """Ask the plan, and count."""
        if not self.plan.strikes(fault):
            return False
        self.struck[fault] += 1
        return True

    async def pause(self) -> None:
        """Take longer, where the plan says so."""
        if self.strikes(Fault.DELAY):
            await self.clock.sleep(self.random.random() * self.sizes.delay)

    async def cut(self) -> None:
        """The connection goes, and every receiver with it; what they held may be handled again."""
        for receiver in self._receivers:
            receiver.note_in_hand()
        await self.inner.close()


class FaultyReceiver:
    """A Receiver that wraps another one. A copy of a delivery is settled without asking the inner receiver."""

    def __init__(self, broker: FaultyBroker, inner: Receiver, source: Source) -> None:
        self._broker = broker
        self._inner = inner
        self._source = source
        self._order = broker.inner.capabilities(source).order if source.ordered else "none"
        self._closed = False
        self._waiting: deque[Delivery] = deque()  # more than the caller had asked for
        self._copies: set[Delivery] = set()
        self._in_hand: dict[Delivery, None] = {}

    @property
    def address(self) -> str:
        """The inner receiver's."""
        return self._inner.address

    async def receive(self, limit: int, wait: float) -> Sequence[Delivery]:
        """Receive, with what can happen meanwhile. All faults come before the inner call, so it is cancel-safe."""
        await self._break()
        if not self._waiting:
            batch = await self._inner.receive(limit if self._order == "none" else max(1, limit - 1), wait)
            self._waiting.extend(self._disturbed(batch, limit))
        batch = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
        self._broker.may_repeat.update(map(id_of, self._waiting))  # nobody keeps their leases while they wait
        return batch

    async def _break(self) -> None:
        broker = self._broker
        await broker.pause()
        if broker.strikes(Fault.CUT_RECEIVE):
            await broker.cut()
        elif broker.strikes(Fault.CLOSE_RECEIVER):
            self.note_in_hand()
            self._closed = True
        elif broker.strikes(Fault.THROTTLE_RECEIVE):
            raise Throttled("fault: throttled", broker.sizes.retry_after)
        if self._closed:
            raise ReceiverClosed("fault: this receiver was closed")

    def _disturbed(self, batch: Sequence[Delivery], limit: int) -> list[Delivery]:
        """Where there is order, a copy comes with its original: alone, it would pass what went back with that one.

        `receive` leaves room for one.
        """
        broker, disturbed = self._broker, list[Delivery]()
        room = len(batch) if self._order == "none" else limit - len(batch)
        for delivery in batch:
            disturbed.append(delivery)
            self._in_hand[delivery] = None
            if room > 0 and broker.strikes(Fault.DUPLICATE):
                room -= 1
                copy = replace(delivery)
                self._copies.add(copy)
                broker.may_repeat.add(id_of(delivery))
                disturbed.append(copy)  # next to the original, so that it breaks no order
        if len(disturbed) > 1 and self._order != "source" and broker.strikes(Fault.REORDER):
            return self._shuffled(disturbed)
        return disturbed

    def _shuffled(self, batch: Sequence[Delivery]) -> list[Delivery]:
        """Any order that keeps each lane's own."""
        lanes: dict[object, deque[Delivery]] = {}
        for delivery in batch:
            lanes.setdefault(delivery if delivery.lane is None else delivery.lane, deque()).append(delivery)
        turns = [lane for lane, members in lanes.items() for _ in members]
        self._broker.random.shuffle(turns)
        return [lanes[lane].popleft() for lane in turns]

    async def settle(self, batch: Sequence[Settlement]) -> Sequence[BusError | None]:
        """Settle what the plan lets through."""
        await self._broker.pause()
        if self._closed:
            return [LeaseLost("fault: this receiver was closed")] * len(batch)
        results, passed = self._split(batch)
        settled = iter(await self._inner.settle(list(passed.values())))
        for place in passed:
            inner = next(settled)
            results[place] = results[place] or inner
            if not isinstance(inner, Throttled | Unavailable):
                self._in_hand.pop(batch[place].delivery, None)
        if self._broker.strikes(Fault.CUT_AFTER_SETTLE):
            await self._broker.cut()
            raise Disconnected("fault: cut after the settlements")
        return results

    def _split(self, batch: Sequence[Settlement]) -> tuple[list[BusError | None], dict[int, Settlement]]:
        """The results known beforehand, and what the inner receiver is to settle, by place."""
        results: list[BusError | None] = [None] * len(batch)
        passed: dict[int, Settlement] = {}
        for place, settlement in enumerate(batch):
            if settlement.delivery in self._copies:
                self._copies.discard(settlement.delivery)
            elif self._broker.strikes(Fault.FAIL_SETTLEMENT):
                results[place] = Throttled("fault: not settled", self._broker.sizes.retry_after)
            elif self._broker.strikes(Fault.LOSE_LEASE):
                results[place] = self._lose(settlement.delivery)
                passed[place] = Settlement(settlement.delivery, Act.RELEASE)
            else:
                passed[place] = settlement
        return results, passed

    def _lose(self, delivery: Delivery) -> LeaseLost:
        self._broker.may_repeat.add(id_of(delivery))
        return LeaseLost("fault: the lease was lost")

    async def extend(self, batch: Sequence[Delivery], seconds: float) -> Sequence[BusError | None]:
        """Extend, or lose the lease: the message goes back at once."""
        originals = [delivery for delivery in batch if delivery not in self._copies]
        lost = [delivery for delivery in originals if self._broker.strikes(Fault.LOSE_LEASE)]
        kept = [delivery for delivery in originals if delivery not in lost]
        results = dict(zip(kept, await self._inner.extend(kept, seconds), strict=True)) if kept else {}
        if lost:
            await self._inner.settle([Settlement(delivery, Act.RELEASE) for delivery in lost])
            results.update((delivery, self._lose(delivery)) for delivery in lost)
        return [results.get(delivery) for delivery in batch]

    async def stop(self) -> None:
        """No fault."""
        await self._inner.stop()

    def note_in_hand(self) -> None:
        """It dies: what it handed in and has not settled may be handled again."""
        self._broker.may_repeat.update(id_of(delivery) for delivery in self._in_hand)
        self._in_hand.clear()


def id_of(delivery: Delivery) -> str:
    """The message's id; "" from a foreign producer that gave none."""
    return delivery.headers.get(h.ID, "")

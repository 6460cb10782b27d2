"""The receiver of the AMQP broker."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from msgbus import headers as h
from msgbus.brokers.amqp.acks import AckWindow
from msgbus.brokers.amqp.copies import Copies
from msgbus.brokers.amqp.names import DUE
from msgbus.brokers.amqp.wire import Arrived, Channel
from msgbus.brokers.mailbox import Mailbox
from msgbus.errors import BusError, LeaseLost, ReceiverClosed
from msgbus.headers import attempt_of
from msgbus.message import Act, Delivery, Settlement, Source

_ACK, _RELEASE = Act.ACK, Act.RELEASE
_AGAIN = 1.0  # seconds until a message that came too early is sent on again, where that failed
_LAST = 1.0  # seconds that sending on may take when the receiver is closed
DELIVERY_COUNT = "x-delivery-count"  # absent at first, then 1, 2, ...


class AmqpReceiver:
    """One consumer on a channel of its own, so that `multiple` acknowledges nobody else's messages."""

    address = ""

    def __init__(self, source: Source, channel: Channel, mailbox: Mailbox[Arrived], copies: Copies) -> None:
        self.consumer = ""
        self._source = source
        self._channel = channel
        self._mailbox = mailbox
        self._copies = copies
        self._window = AckWindow()
        self._counts = copies.counts_deliveries
        self._time = copies.time
        self._stopped = False
        self._sending_on: set[asyncio.Task[None]] = set()

    async def receive(self, limit: int, wait: float) -> Sequence[Delivery]:
        """What came, as soon as there is something."""
        arrived = await self._mailbox.take(limit, wait)
        return self._deliveries(arrived) if arrived else []

    def _deliveries(self, batch: Sequence[Arrived]) -> list[Delivery]:
        source, ordered = self._source, self._source.ordered
        deliveries: list[Delivery] = []
        early: list[Arrived] = []
        for arrived in batch:
            headers = arrived.headers
            if h.EXPIRES in headers and self._is_expired(headers):
                self._window.done(arrived.tag)
                continue
            if DUE in headers and self._copies.is_early(arrived):
                early.append(arrived)
                continue
            arrived.owner = self
            count = 1
            if arrived.extras is not None and self._counts:
                count += int(arrived.extras.get(DELIVERY_COUNT, 0))
            deliveries.append(
                Delivery(
                    arrived.body,
                    source,
                    headers,
                    arrived,
                    attempt_of(headers) if h.ATTEMPT in headers else 1,
                    count,
                    headers.get(h.KEY) if ordered else None,
                    arrived.timestamp,
                    arrived,
                )
            )
        if len(deliveries) < len(batch):
            self._acknowledge()
        if early:
            task = asyncio.ensure_future(self._send_on(early))
            self._sending_on.add(task)
            task.add_done_callback(self._sending_on.discard)
        return deliveries

    async def _send_on(self, early: Sequence[Arrived]) -> None:
        """What came before its time waits again, and is acknowledged when its copy is confirmed."""
        while early and self._channel.closed is None:
            outcomes = await self._copies.send_on(self._source, early)
            for arrived, outcome in zip(early, outcomes, strict=True):
                if outcome is None:
                    self._window.done(arrived.tag)
            self._acknowledge()
            early = [arrived for arrived, outcome in zip(early, outcomes, strict=True) if outcome is not None]
            if early:
                await self._copies.sleep(_AGAIN)

    def _is_expired(self, headers: Mapping[str, str]) -> bool:
        """A dead letter does not expire."""
        try:
            return float(headers[h.EXPIRES]) <= self._time() and h.DEAD_REASON not in headers
        except ValueError:
            return False

    async def settle(self, batch: Sequence[Settlement]) -> Sequence[BusError | None]:
        """ACK and RELEASE are on their way at once; RETRY and DEAD are copies, confirmed before the original goes."""
        if self._channel.closed is not None:
            return [LeaseLost(f"{self._source}: the receiver is closed")] * len(batch)
        results: list[BusError | None] = [None] * len(batch)
        done, copied, released = self._window.done, [], []
        for place, settlement in enumerate(batch):
            arrived: Arrived = settlement.delivery.token
            if arrived.owner is not self:
                results[place] = LeaseLost(f"{self._source}: settled already, or by another receiver's delivery")
                continue
            arrived.owner = None
            if settlement.act is _ACK:
                done(arrived.tag)
            elif settlement.act is _RELEASE:
                released.append(arrived.tag)
            else:
                copied.append(place)
        if released:
            self._release(released)
        self._acknowledge()
        if copied:
            await self._copy(batch, copied, results)
        return results

    def _acknowledge(self) -> None:
        acks = self._window.flush()
        if acks and self._channel.closed is None:
            self._channel.ack(acks)

    def _release(self, tags: Sequence[int]) -> None:
        """Unordered: back at once. Ordered: nothing, the end of the channel gives all back in their order.

        The consumer stays active until then, so that nobody gets what follows. A release in the middle of life ends
        the channel now: what comes after it is already here.
        """
        if not self._source.ordered:
            self._channel.requeue(tags)
            for tag in tags:
                self._window.told(tag)
        elif not self._stopped:
            self._mailbox.end(ReceiverClosed(f"{self._source}: given back in order"))

    async def _copy(self, batch: Sequence[Settlement], places: Sequence[int], results: list[BusError | None]) -> None:
        settlements = [batch[place] for place in places]
        outcomes: Sequence[BusError | None] = [ReceiverClosed("cancelled")] * len(places)
        try:
            outcomes = await self._copies.send(self._source, settlements)
        finally:
            for place, settlement, outcome in zip(places, settlements, outcomes, strict=True):
                arrived: Arrived = settlement.delivery.token
                if outcome is None:
                    self._window.done(arrived.tag)
                else:
                    arrived.owner = self
                results[place] = outcome
            if self._channel.closed is None:
                self._acknowledge()
        if self._channel.closed is not None:  # the copies are there, the originals come again
            for place in places:
                results[place] = results[place] or LeaseLost(f"{self._source}: closed before the original went")

    async def extend(self, batch: Sequence[Delivery], seconds: float) -> Sequence[BusError | None]:
        """A delivery is held as long as its channel lives."""
        return [None if d.token.owner is self else LeaseLost(f"{self._source}: settled") for d in batch]

    async def stop(self) -> None:
        """Nothing new. An ordered source keeps its consumer, and so its place, until its handlers have ended."""
        self._stopped = True
        if not self._source.ordered and self._channel.closed is None:
            await self._channel.cancel(self.consumer)
        self._mailbox.close(refuse=self._source.ordered)

    async def close(self) -> None:
        """Let acknowledgements go out, then the channel."""
        if self._sending_on:
            await asyncio.wait(self._sending_on, timeout=_LAST)
            for task in self._sending_on:
                task.cancel()
        await self._channel.close()

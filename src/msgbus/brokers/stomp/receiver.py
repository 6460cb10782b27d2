"""The receiver of the STOMP broker. Each has a connection of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgbus import headers as h
from msgbus.brokers.mailbox import Mailbox
from msgbus.brokers.stomp.codec import Frame
from msgbus.brokers.stomp.conversation import Conversation
from msgbus.brokers.stomp.copies import Copies
from msgbus.brokers.stomp.properties import Arrived
from msgbus.errors import BusError, LeaseLost, ReceiverClosed
from msgbus.headers import attempt_of
from msgbus.message import Act, Delivery, Settlement, Source

_ACK, _RELEASE = Act.ACK, Act.RELEASE


class StompReceiver:
    """One subscription. ActiveMQ gives back everything in hand at its end, handled now or not: it ends last."""

    address = ""

    def __init__(self, source: Source, conversation: Conversation, mailbox: Mailbox[Frame], copies: Copies) -> None:
        self._source = source
        self._conversation = conversation
        self._mailbox = mailbox
        self._copies = copies
        self._arrived = copies.dialect.arrived
        self._in_hand = 0
        self._stopped = False

    async def receive(self, limit: int, wait: float) -> Sequence[Delivery]:
        """What came, as soon as there is something."""
        if self._stopped:
            return []
        frames = await self._mailbox.take(limit, wait)
        return self._deliveries(frames) if frames else []

    def _deliveries(self, frames: Sequence[Frame]) -> list[Delivery]:
        source, ordered, open_, deliveries, expired = self._source, self._source.ordered, self._arrived, [], []
        for frame in frames:
            arrived = open_(frame)
            headers = arrived.headers
            if h.EXPIRES in headers and self._is_expired(headers):
                expired.append(arrived.native)
                continue
            arrived.owner = self
            deliveries.append(
                Delivery(
                    arrived.body,
                    source,
                    headers,
                    arrived,
                    attempt_of(headers) if h.ATTEMPT in headers else 1,
                    arrived.deliveries,
                    headers.get(h.KEY) if ordered else None,
                    arrived.timestamp,
                    arrived,
                )
            )
        self._in_hand += len(deliveries)
        if expired:
            self._conversation.settle("ACK", expired)
        return deliveries

    def _is_expired(self, headers: Mapping[str, str]) -> bool:
        """A dead letter does not expire."""
        try:
            return float(headers[h.EXPIRES]) <= self._copies.time() and h.DEAD_REASON not in headers
        except ValueError:
            return False

    async def settle(self, batch: Sequence[Settlement]) -> Sequence[BusError | None]:
        """ACK is on its way at once; RETRY and DEAD are copies, confirmed before the original goes."""
        if self._conversation.closed is not None:
            return [LeaseLost(f"{self._source}: the receiver is closed")] * len(batch)
        results: list[BusError | None] = [None] * len(batch)
        acks: list[Mapping[str, str]] = []
        others: list[int] = []
        for place, settlement in enumerate(batch):
            arrived: Arrived = settlement.delivery.token
            if arrived.owner is not self:
                results[place] = LeaseLost(f"{self._source}: settled already, or by another receiver's delivery")
                continue
            arrived.owner = None
            if settlement.act is _ACK:
                acks.append(arrived.native)
            else:
                others.append(place)
        self._in_hand -= len(acks)
        if acks:
            self._conversation.settle("ACK", acks)
        if others:
            await self._settle_others(batch, others, results)
        if self._stopped and not self._in_hand:
            self._conversation.abandon()
        return results

    async def _settle_others(
        self, batch: Sequence[Settlement], places: Sequence[int], results: list[BusError | None]
    ) -> None:
        copied = places
        if not self._is_copied():
            copied = [place for place in places if batch[place].act is not _RELEASE]
            released = [batch[place].delivery.token.native for place in places if batch[place].act is _RELEASE]
            self._in_hand -= len(released)
            self._release(released)
        if copied:
            await self._copy(batch, copied, results)

    def _is_copied(self) -> bool:
        """Whether a RELEASE is a copy: where the server gives back nothing but all at once, and order is no matter."""
        return not (self._stopped or self._source.ordered or self._copies.dialect.gives_back())

    def _release(self, messages: Sequence[Mapping[str, str]]) -> None:
        """After the stop the end of the connection gives them back; before it, in order or one by one."""
        if self._stopped or not messages:
            return
        if self._source.ordered:
            self._mailbox.end(ReceiverClosed(f"{self._source}: given back in order"))
        else:
            self._conversation.settle("NACK", messages)

    async def _copy(self, batch: Sequence[Settlement], places: Sequence[int], results: list[BusError | None]) -> None:
        settlements = [batch[place] for place in places]
        outcomes: Sequence[BusError | None] = [ReceiverClosed("cancelled")] * len(places)
        gone = False
        try:
            outcomes = await self._copies.send(self._source, settlements)
        finally:
            gone = self._conversation.closed is not None
            done: list[Mapping[str, str]] = []
            for place, settlement, outcome in zip(places, settlements, outcomes, strict=True):
                arrived: Arrived = settlement.delivery.token
                if outcome is None:
                    done.append(arrived.native)
                else:
                    arrived.owner = self
                results[place] = outcome
            self._in_hand -= len(done)
            if done:
                self._conversation.settle("ACK", done)
        if gone:  # the copies are there, the originals come again
            for place in places:
                results[place] = results[place] or LeaseLost(f"{self._source}: closed before the original went")

    async def extend(self, batch: Sequence[Delivery], seconds: float) -> Sequence[BusError | None]:
        """A delivery is held as long as its connection lives."""
        return [None if d.token.owner is self else LeaseLost(f"{self._source}: settled") for d in batch]

    async def stop(self) -> None:
        """Nothing new. What is not handed out goes back when the last of what is in hand is settled."""
        self._stopped = True
        self._mailbox.close(refuse=True)
        if not self._in_hand:
            await self._conversation.close()

    async def close(self) -> None:
        """Let acknowledgements go out, then the connection."""
        await self._conversation.close()

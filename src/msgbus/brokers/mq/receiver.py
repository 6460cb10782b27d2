"""The receiver of a broker that pushes: what is in hand, whose it is, and how each is settled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from msgbus import headers as h
from msgbus.brokers.mailbox import Mailbox
from msgbus.brokers.mq.errors import Hidden
from msgbus.errors import BusError, DecodeError, LeaseLost, ReceiverClosed
from msgbus.headers import attempt_of
from msgbus.message import Act, Delivery, Settlement, Source

_ACK, _RELEASE = Act.ACK, Act.RELEASE


class Arrived:
    """A message that came: the token of a delivery, and its `raw`. Brokers derive from it what else they know.

    `headers`: the sender's, those with a native place among them. `timestamp`: Unix seconds. `deliveries`: how often
    the server has handed it out, this time included. `owner`: the receiver that may settle it. `fault`: what of it
    can't be read.
    """

    __slots__ = ("body", "deliveries", "fault", "headers", "owner", "timestamp")

    headers: dict[str, str]
    body: bytes
    timestamp: float | None
    deliveries: int
    owner: object
    fault: DecodeError | None


M = TypeVar("M")  # what the mailbox holds
A_contra = TypeVar("A_contra", bound=Arrived, contravariant=True)
A = TypeVar("A", bound=Arrived)


class Subscription(Protocol[A_contra]):
    """One subscription at the server. Its end gives everything that is unsettled back, in order."""

    @property
    def closed(self) -> BusError | None:
        """Why nothing can be settled any more."""
        ...

    def acknowledge(self, messages: Sequence[A_contra]) -> None:
        """They are done with. Never waits."""
        ...

    def give_back(self, messages: Sequence[A_contra]) -> None:
        """Each back to its queue. Never waits."""
        ...

    async def cancel(self) -> bool:
        """No new messages. False where the server would give back what is in hand too: then `close` comes last."""
        ...

    async def close(self) -> None:
        """Let acknowledgements go out, then end it; harmless when done before."""
        ...

    def abandon(self) -> None:
        """The same without waiting."""
        ...


class Copies(Protocol):
    """Sends copies of what is to be tried later, or is dead."""

    async def send(self, source: Source, settlements: Sequence[Settlement]) -> Sequence[BusError | None]:
        """None for each that is confirmed, else its error. Raises nothing but a cancellation."""
        ...


def key_of(arrived: Arrived) -> str | None:
    """What messages of an ordered source are kept in order by."""
    return arrived.headers.get(h.KEY)


class PushReceiver(Generic[M, A]):
    """Hands out what is in the mailbox that `subscription` fills, as `read` opens it.

    `counts`: the server counts deliveries through crashes. `gives_back`: it takes back a single message; otherwise a
    RELEASE is a copy. `lane_of`: of an ordered source, what is handled one after the other.
    """

    address = ""

    def __init__(
        self,
        source: Source,
        mailbox: Mailbox[M],
        subscription: Subscription[A],
        read: Callable[[Sequence[M]], Iterable[A]],
        copies: Copies,
        *,
        counts: bool,
        gives_back: bool,
        lane_of: Callable[[A], str | None] = key_of,
    ) -> None:
        self._lane_of = lane_of
        self._source = source
        self._mailbox = mailbox
        self._subscription = subscription
        self._read = read
        self._copies = copies
        self._counts = counts
        self._copies_released = not (source.ordered or gives_back)
        self._in_hand = 0
        self._ends_last = False  # stopped: all that is not handed out goes back when nothing is in hand any more

    @property
    def on_end(self) -> Callable[[Exception], None] | None:
        """Told of the end of the subscription; see broker.TellsItsEnd."""
        return self._mailbox.on_end

    @on_end.setter
    def on_end(self, told: Callable[[Exception], None] | None) -> None:
        self._mailbox.on_end = told

    async def receive(self, limit: int, wait: float) -> Sequence[Delivery]:
        """What came, as soon as there is something."""
        if self._ends_last:
            return []
        came = await self._mailbox.take(limit, wait)
        return self._deliveries(self._read(came)) if came else []

    def _deliveries(self, batch: Iterable[A]) -> list[Delivery]:
        source, ordered, counts, lane_of = self._source, self._source.ordered, self._counts, self._lane_of
        deliveries: list[Delivery] = []
        for arrived in batch:
            headers = arrived.headers
            arrived.owner = self
            deliveries.append(
                Delivery(
                    arrived.body,
                    source,
                    headers,
                    arrived,
                    attempt_of(headers) if h.ATTEMPT in headers else 1,
                    arrived.deliveries if counts else 1,
                    lane_of(arrived) if ordered else None,
                    arrived.timestamp,
                    arrived,
                    arrived.fault,
                )
            )
        self._in_hand += len(deliveries)
        return deliveries

    async def settle(self, batch: Sequence[Settlement]) -> Sequence[BusError | None]:
        """ACK and RELEASE are on their way at once; RETRY and DEAD are copies, confirmed before the original goes."""
        if self._subscription.closed is not None:
            return [LeaseLost(f"{self._source}: the receiver is closed")] * len(batch)
        results: list[BusError | None] = [None] * len(batch)
        acknowledged: list[A] = []
        others: list[int] = []
        for place, settlement in enumerate(batch):
            arrived: A = settlement.delivery.token
            if arrived.owner is not self:
                results[place] = LeaseLost(f"{self._source}: settled already, or by another receiver's delivery")
                continue
            arrived.owner = None
            if settlement.act is _ACK:
                acknowledged.append(arrived)
            else:
                others.append(place)
        others = self._but_released(batch, self._but_hidden(batch, others)) if others else others
        if acknowledged:
            self._in_hand -= len(acknowledged)
            self._subscription.acknowledge(acknowledged)
        if others:
            await self._copy(batch, others, results)
        if self._ends_last and not self._in_hand:
            self._subscription.abandon()
        return results

    def _but_hidden(self, batch: Sequence[Settlement], places: list[int]) -> list[int]:
        """What can't be copied goes to the server's own dead letters, whole; the places of the others.

        One that is released comes back when the subscription ends.
        """
        hidden = [place for place in places if isinstance(batch[place].delivery.token.fault, Hidden)]
        if hidden:
            self._in_hand -= len(hidden)
            dead = [batch[place].delivery.token for place in hidden if batch[place].act is not _RELEASE]
            self._subscription.give_back(dead)
        return [place for place in places if place not in hidden] if hidden else places

    def _but_released(self, batch: Sequence[Settlement], places: list[int]) -> list[int]:
        """Give back what is released and needs no copy; the places of the others."""
        if self._copies_released and not self._ends_last:
            return places
        released: list[A] = [batch[place].delivery.token for place in places if batch[place].act is _RELEASE]
        if released:
            self._in_hand -= len(released)
            self._release(released)
        return [place for place in places if batch[place].act is not _RELEASE]

    def _release(self, messages: Sequence[A]) -> None:
        """Unordered: back at once. Ordered, or stopped where the end comes last: the end gives all back in order.

        Until then the consumer stays active, so that nobody gets what follows. A release of an ordered one in the
        middle of life ends the receiver now: what comes after it is already here.
        """
        if self._ends_last:
            return
        if self._source.ordered:
            self._mailbox.end(ReceiverClosed(f"{self._source}: given back in order"))
        else:
            self._subscription.give_back(messages)

    async def _copy(self, batch: Sequence[Settlement], places: Sequence[int], results: list[BusError | None]) -> None:
        settlements = [batch[place] for place in places]
        outcomes: Sequence[BusError | None] = [ReceiverClosed("cancelled")] * len(places)
        try:
            outcomes = await self._copies.send(self._source, settlements)
        finally:
            done: list[A] = []
            for place, settlement, outcome in zip(places, settlements, outcomes, strict=True):
                arrived: A = settlement.delivery.token
                if outcome is None:
                    done.append(arrived)
                else:
                    arrived.owner = self
                results[place] = outcome
            self._in_hand -= len(done)
            gone = self._subscription.closed is not None
            if done and not gone:
                self._subscription.acknowledge(done)
        if gone:  # the copies are there, the originals come again
            for place in places:
                results[place] = results[place] or LeaseLost(f"{self._source}: closed before the original went")

    async def extend(self, batch: Sequence[Delivery], seconds: float) -> Sequence[BusError | None]:
        """A delivery is held as long as its subscription lives."""
        return [None if d.token.owner is self else LeaseLost(f"{self._source}: settled") for d in batch]

    async def stop(self) -> None:
        """Nothing new. An ordered source keeps its consumer, and so its place, until its handlers have ended."""
        self._ends_last = self._source.ordered or not await self._subscription.cancel()
        self._mailbox.close(refuse=self._ends_last)
        if self._ends_last and not self._in_hand:
            await self._subscription.close()

    async def close(self) -> None:
        """Let acknowledgements go out, then end the subscription."""
        await self._subscription.close()

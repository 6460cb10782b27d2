"""The seam between the AMQP broker and a client: what both wires (lean.py, aiormq.py) do.

A wire is one connection. It moves messages whose properties are already headers; names, retries, dead letters and
topology are above it. Its errors are those of msgbus, with a ServerSaid as `__cause__` where the server spoke.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pamqp.base import Frame

from msgbus.brokers.mailbox import Mailbox
from msgbus.brokers.mq import connections, receiver
from msgbus.errors import BusError, Refused


class Publication:
    """A message to publish. `headers` are all of them, the ones with a native property too (properties.py).

    `timestamp`: Unix seconds. `expiration`: milliseconds until the server drops it. `mandatory`: say whether no
    queue took it.
    """

    __slots__ = (
        *("app_id", "body", "exchange", "expiration", "headers", "mandatory", "priority", "routing_key", "timestamp"),
        *("typed", "user_id"),
    )

    def __init__(
        self,
        exchange: str,
        routing_key: str,
        headers: Mapping[str, str],
        body: bytes,
        timestamp: int,
        *,
        mandatory: bool = True,
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.headers = headers
        self.body = body
        self.timestamp = timestamp
        self.mandatory = mandatory
        self.expiration: int | None = None
        self.priority: int | None = None
        self.typed: Mapping[str, Any] | None = None
        self.app_id = self.user_id = ""


class Arrived(receiver.Arrived):
    """A message that came. `headers`: the header table with the native properties.

    `extras`: what is no text (`x-death`, `x-delivery-count`) or has no header of ours (`priority`, `app_id`,
    `user_id`, `expiration`), None if nothing is. `typed`: the headers that were no text, as this wire writes them.
    """

    __slots__ = ("channel", "exchange", "extras", "redelivered", "routing_key", "tag", "typed")

    extras: dict[str, Any] | None
    typed: dict[str, Any] | None

    def __init__(self, channel: int, tag: int, redelivered: bool, exchange: str, routing_key: str) -> None:
        self.channel = channel
        self.tag = tag
        self.redelivered = redelivered
        self.exchange = exchange
        self.routing_key = routing_key
        self.deliveries = 1
        self.owner = self.fault = self.typed = None

    def __repr__(self) -> str:
        return f"Arrived(tag={self.tag}, {self.exchange!r}, {self.routing_key!r}, {len(self.body)} bytes)"


class Unrouted(Refused):
    """The outcome of a mandatory publication that no queue took."""


class Channel(Protocol):
    """One channel. It dies alone where the server closes it, and with its wire."""

    @property
    def closed(self) -> BusError | None:
        """Why it is dead; None while it lives."""
        ...

    async def publish(self, batch: Sequence[Publication]) -> Sequence[BusError | None]:
        """Publish and wait for all confirms; waits while the server blocks publishers or the socket is full.

        Only on a channel with confirms. One outcome each, None where the server has it: Unrouted, Refused, Throttled
        (the queue rejected it), Unavailable (another entry closed the channel). Raises Disconnected. Cancelled, the
        outcome is unknown.
        """
        ...

    async def bounce(self, publication: Publication) -> Arrived:
        """Publish what no queue takes; as the server gives it back. On a channel with confirms, and nothing else."""
        ...

    async def consume(self, queue: str, mailbox: Mailbox[Arrived], prefetch: int) -> str:
        """Have messages put into `mailbox`; the consumer's tag. `prefetch` 0: no acknowledgements at all.

        The end of the consumer, the channel or the connection fails the mailbox.
        """
        ...

    async def cancel(self, consumer: str) -> None:
        """No new messages; what came before is in the mailbox when it returns."""
        ...

    def ack(self, acks: Sequence[tuple[int, bool]]) -> None:
        """Acknowledge: (tag, all up to it). Never waits."""
        ...

    def requeue(self, tags: Sequence[int]) -> None:
        """Give messages back to their queue. Never waits."""
        ...

    async def call(self, method: Frame) -> Frame:
        """Call a synchronous method; its answer. Raises the error of the channel's or the connection's end."""
        ...

    async def close(self) -> None:
        """Close it; what it held unacknowledged goes back to the queues. Harmless when dead."""
        ...

    def abandon(self) -> None:
        """Close it without waiting."""
        ...


class Wire(connections.Connection, Protocol):
    """One connection. `blocked`: a memory or disk alarm."""

    async def channel(self, *, confirms: bool = False) -> Channel:
        """Open a channel."""
        ...

"""The STOMP broker: messages and sources of msgbus on the queues of ActiveMQ, and of RabbitMQ's STOMP plugin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from msgbus.broker import Capabilities, Mode, QueueSpec, Status
from msgbus.brokers.mailbox import Mailbox, ReplyInbox
from msgbus.brokers.mq.receiver import PushReceiver
from msgbus.brokers.mq.sending import completed, missing_queue, prepared, too_large
from msgbus.brokers.plan import Plan, Resource, Use
from msgbus.brokers.stomp.activemq import ActiveMq
from msgbus.brokers.stomp.admin import StompAdmin
from msgbus.brokers.stomp.catalog import Catalog
from msgbus.brokers.stomp.codec import Frame
from msgbus.brokers.stomp.conversation import Conversation
from msgbus.brokers.stomp.copies import Copies
from msgbus.brokers.stomp.dialect import Dialect
from msgbus.brokers.stomp.errors import is_gone
from msgbus.brokers.stomp.properties import Arrived, lane_of
from msgbus.brokers.stomp.rabbitmq import RabbitMq
from msgbus.brokers.stomp.settings import parse
from msgbus.brokers.stomp.wires import Wires
from msgbus.clock import Clock
from msgbus.errors import BusError, Refused
from msgbus.message import Address, Outgoing, Receipt, Source


class StompBroker:
    """`stomp://` and `stomp+ssl://`; see settings.Options. CONNECTED says which server it is."""

    def __init__(self, url: str, *, clock: Clock) -> None:
        self._target = parse(url)
        self._options = self._target.options
        self._clock = clock
        self._wires = Wires(self._target, clock, self._greet)
        self._catalog = Catalog(self._wires, clock)
        self._dialect: Dialect = ActiveMq(self._options)
        self.admin = StompAdmin(self._wires, self._catalog, clock, lambda: self._dialect)

    async def connect(self) -> None:
        """Connect what is not connected; what lives is left alone."""
        await self._wires.publishing.open()

    async def _greet(self, conversation: Conversation) -> None:
        server = conversation.connected.get("server", "")
        dialect: Dialect
        if server.startswith("ActiveMQ/"):
            dialect = ActiveMq(self._options)
        elif server.startswith("RabbitMQ/"):
            dialect = RabbitMq(self._options)
        else:
            raise Refused(f"{self._target}: the server is {server!r}, known are ActiveMQ (Classic) and RabbitMQ")
        await dialect.learn(conversation, self._clock)
        self._dialect = dialect

    async def close(self) -> None:
        """Close the publishing connection; receivers have their own."""
        await self._wires.publishing.close()

    def capabilities(self, source: Source | None = None) -> Capabilities:
        """Of the server that was connected to; of ActiveMQ with a scheduler before that."""
        return self._dialect.capabilities(source)

    def plan(self, uses: Sequence[Use], mode: Mode) -> Plan:
        """The queues as either server calls them: only a connection tells which one it is."""
        dialects: Mapping[str, Dialect] = {"ActiveMQ": ActiveMq(self._options), "RabbitMQ": RabbitMq(self._options)}
        parts = [part for use in uses for part in use.parts if isinstance(part, QueueSpec)]
        resources = [
            Resource(kind=f"{server} queue", name=name)
            for part in parts
            for server, dialect in dialects.items()
            for name in (dialect.dead_of(dialect.queue_of(part.source)), dialect.queue_of(part.source))
        ]
        return Plan(resources=resources)

    def status(self) -> Status:
        """Of the publishing connection."""
        return self._wires.publishing.status()

    # -- sending

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Receipt | BusError]:
        """Send all, then wait for their receipts."""
        dialect = self._dialect
        self._wires.publishing.alive()
        results, frames = prepared(batch, self._frame, await self._missing(batch), self._clock.time())
        outcomes = await self._wires.publish(frames, together=dialect.together)
        return completed(batch, results, outcomes, _failed)

    async def _missing(self, batch: Sequence[Outgoing]) -> Collection[str]:
        """The queues of these messages that are not there."""
        known, queue_of = self._catalog.known, self._dialect.queue_of
        asked = [
            queue
            for each in {out.address for out in batch}
            if _is_queue(each) and (queue := queue_of(each)) not in known
        ]
        return await self._catalog.missing(self._dialect, asked) if asked else ()

    def _frame(self, out: Outgoing, missing: Collection[str], now: float) -> Frame | BusError:
        """Or what the server would drop, or answer by closing the connection, under the other entries too."""
        dialect, most = self._dialect, self._options.max_bytes
        if len(out.body) > most:
            return too_large(out, most)
        if told := dialect.limit(out):
            return Refused(f"{out.address}: {told}")
        if missing and _is_queue(out.address) and (queue := dialect.queue_of(out.address)) in missing:
            return missing_queue(out.address, queue)
        return dialect.frame(out, now)

    # -- receiving

    @asynccontextmanager
    async def receiver(
        self, source: Source, *, prefetch: int
    ) -> AsyncIterator[PushReceiver[Frame, Arrived] | ReplyInbox[Frame]]:
        """A subscription on a connection of its own."""
        if source.kind != "reply" and self._dialect.makes_queues:
            self._wires.publishing.alive()
            await self._catalog.check(self._dialect, source, self._dialect.queue_of(source))
        conversation = await self._wires.another()
        try:
            receiver = await self._open(source, conversation, prefetch)
        except BaseException:
            conversation.abandon()
            raise
        try:
            yield receiver
        finally:
            await receiver.close()

    async def _open(
        self, source: Source, conversation: Conversation, prefetch: int
    ) -> PushReceiver[Frame, Arrived] | ReplyInbox[Frame]:
        dialect = self._dialect
        if source.kind == "reply":
            mailbox: Mailbox[Frame] = Mailbox(self._clock)
            address = await dialect.open_inbox(conversation, mailbox)
            return ReplyInbox(source, mailbox, address, dialect.arrived, conversation.close)
        mailbox = dialect.mailbox(self._clock, self._wires.another)
        copies = Copies(self._wires, self._catalog, dialect, self._clock.time)
        await conversation.subscribe("messages", dialect.subscription(source, prefetch), mailbox)
        return PushReceiver(
            source,
            mailbox,
            conversation,
            partial(map, dialect.arrived),
            copies,
            counts=dialect.capabilities(source).counts_deliveries,
            gives_back=dialect.gives_back,
            lane_of=lane_of,
        )


def _failed(out: Outgoing, error: BusError) -> Receipt | BusError:
    """A requester that has gone is no error of its responder."""
    return Receipt(out.id, unrouted=True) if out.address.kind == "reply" and is_gone(error) else error


def _is_queue(address: Address) -> bool:
    return address.kind == "queue" or bool(address.group and address.kind == "topic")

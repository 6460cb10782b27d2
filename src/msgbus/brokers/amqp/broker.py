"""The AMQP 0-9-1 broker: messages and sources of msgbus on exchanges and queues of RabbitMQ."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from msgbus import headers as h
from msgbus.broker import Capabilities, Mode, Status
from msgbus.brokers.amqp import inbox
from msgbus.brokers.amqp.admin import AmqpAdmin
from msgbus.brokers.amqp.consumer import Consumer
from msgbus.brokers.amqp.copies import Copies
from msgbus.brokers.amqp.names import LATEST, LONGEST, routing_key
from msgbus.brokers.amqp.planning import planned
from msgbus.brokers.amqp.properties import CONTENT_ENCODING
from msgbus.brokers.amqp.settings import parse
from msgbus.brokers.amqp.topology import Exchanges
from msgbus.brokers.amqp.wire import Arrived, Publication, Unrouted
from msgbus.brokers.amqp.wires import Wires
from msgbus.brokers.mailbox import Mailbox, ReplyInbox
from msgbus.brokers.mq.capabilities import common
from msgbus.brokers.mq.rabbitmq import INBOXES, queue_of, unsafe_reply
from msgbus.brokers.mq.receiver import PushReceiver
from msgbus.brokers.mq.sending import completed, prepared, too_large
from msgbus.brokers.plan import Plan, Use
from msgbus.clock import Clock
from msgbus.errors import BusError, Refused
from msgbus.message import Address, CopyOf, Outgoing, Receipt, Source

_OCTETS, _BINARY = "application/octet-stream", "binary"  # without the second, kombu takes the body for UTF-8


@dataclass(frozen=True, slots=True, kw_only=True)
class AmqpOptions:
    """`SendOptions(native=AmqpOptions(priority=5))`. `priority`: 0 to 255; only classic queues know it."""

    priority: int | None = None

    def __post_init__(self) -> None:
        if self.priority is not None and not 0 <= self.priority <= 255:
            raise ValueError(f"AmqpOptions.priority is {self.priority}, allowed are 0 to 255")


class AmqpBroker:
    """`amqp://` and `amqps://`; see settings.Options."""

    def __init__(self, url: str, *, clock: Clock) -> None:
        self._target = parse(url)
        self._options = self._target.options
        self._clock = clock
        self._wires = Wires(self._target, clock)
        self._exchanges = Exchanges(self._wires)
        user = self._target.user if self._options.auth == "plain" else ""
        self._copies = Copies(self._wires, self._options.queue_type, clock, user)
        self.admin = AmqpAdmin(self._wires, self._options, self._exchanges)

    async def connect(self) -> None:
        """Connect what is not connected; what lives is left alone."""
        await self._wires.open()

    async def close(self) -> None:
        """Close both connections; what receivers held goes back to the queues."""
        await self._wires.close()

    def capabilities(self, source: Source | None = None) -> Capabilities:
        """An ordered source can't be retried by the server: a copy would come after its followers."""
        ordered = source is not None and source.ordered
        return replace(
            common(self._options.max_bytes),
            order="source",
            lease_max=self._options.consumer_timeout,
            counts_deliveries=self._copies.counts_deliveries,
            retry_delay=None if ordered else LONGEST,
            retry_resolution=0.0 if ordered else LATEST,
            inboxes=INBOXES,
            backlog="ready",
        )

    def plan(self, uses: Sequence[Use], mode: Mode) -> Plan:
        """Exchanges, queues and bindings. Rights are those of a user on names, which the server's admin gives."""
        return planned(uses, self._options, self._target.vhost)

    def status(self) -> Status:
        """Of both connections; blocked while the server takes no publishes."""
        return self._wires.status()

    # -- sending

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Receipt | BusError]:
        """Publish all, then wait for their confirms."""
        known = self._exchanges.known
        unknown: set[str] = set()
        for out in batch:
            kind, name, group = out.address
            if name not in known and kind == "topic" and not group:
                unknown.add(name)
        absent = await self._exchanges.absent(unknown) if unknown else {}
        results, publications = prepared(batch, self._publication, absent, self._clock.time())
        return completed(batch, results, await self._wires.publish(publications), self._failed)

    def _publication(self, out: Outgoing, absent: Mapping[str, BusError], now: float) -> Publication | BusError:
        """Or what the server would answer by closing the channel, under the other entries too."""
        kind, name, group = out.address
        is_topic = kind == "topic" and not group
        if len(out.body) > self._options.max_bytes:
            return too_large(out, self._options.max_bytes)
        if is_topic and name in absent:
            return absent[name]
        if kind == "reply" and (why := unsafe_reply(name)):
            return Refused(f"{out.address}: {why}")
        publication = Publication(
            name if is_topic else "",
            routing_key(out.headers) if is_topic else queue_of(out.address),
            out.headers if out.headers.get(h.CONTENT_TYPE) != _OCTETS else {CONTENT_ENCODING: _BINARY, **out.headers},
            out.body,
            int(now),
            mandatory=kind != "reply",  # a reply comes back as unroutable although it was delivered
        )
        if out.expires_at is not None and h.REPLY_TO not in out.headers:
            publication.expiration = max(0, int((out.expires_at - now) * 1000))
        if out.native is not None:
            self._add_native(publication, out.native)
        return publication

    def _add_native(self, publication: Publication, native: object) -> None:
        if isinstance(native, AmqpOptions):
            publication.priority = native.priority
        elif isinstance(native, CopyOf) and isinstance(native.delivery.token, Arrived):
            self._copies.resend(publication, native)

    def _failed(self, out: Outgoing, error: BusError) -> Receipt | BusError:
        if not isinstance(error, Unrouted):
            if isinstance(error, Refused):
                self._exchanges.known.discard(out.address.name)
            return error
        if not _is_topic(out.address):
            return Refused(f"{out.address} is not there")
        return Refused(f"{out.address}: nobody subscribes to it") if out.mandatory else Receipt(out.id, unrouted=True)

    # -- receiving

    @asynccontextmanager
    async def receiver(
        self, source: Source, *, prefetch: int
    ) -> AsyncIterator[PushReceiver[Arrived, Arrived] | ReplyInbox[Arrived]]:
        """A consumer on a channel of its own."""
        mailbox: Mailbox[Arrived] = Mailbox(self._clock)
        receiver = await (
            inbox.open_inbox(self._wires, source, mailbox)
            if source.kind == "reply"
            else self._consumer(source, mailbox, prefetch)
        )
        try:
            yield receiver
        finally:
            await receiver.close()

    async def _consumer(
        self, source: Source, mailbox: Mailbox[Arrived], prefetch: int
    ) -> PushReceiver[Arrived, Arrived]:
        wire = await self._wires.consuming()
        channel = await wire.channel()
        try:
            tag = await channel.consume(queue_of(source), mailbox, prefetch)
        except BaseException:
            channel.abandon()
            raise
        consumer = Consumer(source, mailbox, channel, tag, self._copies)
        return PushReceiver(
            source,
            mailbox,
            consumer,
            consumer.read,
            self._copies,
            counts=self._copies.counts_deliveries,
            gives_back=True,
        )


def _is_topic(address: Address) -> bool:
    return address.kind == "topic" and not address.group

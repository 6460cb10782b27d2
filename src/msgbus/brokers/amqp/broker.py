"""The AMQP 0-9-1 broker: messages and sources of msgbus on exchanges and queues of RabbitMQ."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

from msgbus import headers as h
from msgbus.broker import Capabilities, Status
from msgbus.brokers.amqp import inbox
from msgbus.brokers.amqp.admin import AmqpAdmin
from msgbus.brokers.amqp.copies import Copies
from msgbus.brokers.amqp.names import LATEST, LONGEST, queue_of, routing_key
from msgbus.brokers.amqp.receiver import AmqpReceiver
from msgbus.brokers.amqp.settings import parse
from msgbus.brokers.amqp.topology import Exchanges
from msgbus.brokers.amqp.wire import Arrived, Channel, Fate, Outcome, Publication
from msgbus.brokers.amqp.wires import Wires
from msgbus.brokers.mailbox import Mailbox, ReplyInbox
from msgbus.clock import Clock
from msgbus.errors import BusError, Disconnected, ReceiverClosed, Refused
from msgbus.message import Outgoing, Receipt, Source

_BATCH = 1000
_TAKEN, _UNROUTED = Fate.TAKEN, Fate.UNROUTED


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
        self._copies = Copies(self._wires, self._options.queue_type, clock)
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
        return Capabilities(
            send_batch=_BATCH,
            send_slots=4,
            send_order="connection",
            message_bytes=self._options.max_bytes,
            binary=True,
            expiry=True,
            receive_batch=_BATCH,
            order="source",
            lease_max=self._options.consumer_timeout,
            counts_deliveries=self._copies.counts_deliveries,
            settle_batch=_BATCH,
            settle_slots=4,
            settle_linger=0.002,
            retry_delay=None if ordered else LONGEST,
            retry_resolution=0.0 if ordered else LATEST,
            dead_letters=True,
            fanout=True,
            queues=True,
            reply=True,
        )

    def status(self) -> Status:
        """Of both connections; blocked while the server takes no publishes."""
        return self._wires.status()

    # -- sending

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Receipt | BusError]:
        """Publish all, then wait for their confirms."""
        channel = await self._channel()
        results: list[Receipt | BusError | None] = [None] * len(batch)
        publications: list[Publication] = []
        places: list[int] = []
        now = self._clock.time()
        for place, out in enumerate(batch):
            refused = await self._refusal(out)
            if refused is not None:
                results[place] = refused
                continue
            places.append(place)
            publications.append(self._publication(out, now))
        for place, outcome in zip(places, await channel.publish(publications), strict=True):
            results[place] = self._receipt(batch[place], outcome)
        return cast(list[Receipt | BusError], results)

    async def _channel(self) -> Channel:
        try:
            return await self._wires.publisher()
        except ReceiverClosed as error:
            raise Disconnected(f"the channel was closed as it was opened: {error}") from error

    async def _refusal(self, out: Outgoing) -> BusError | None:
        """What the server would answer by closing the channel, under the other entries too."""
        if len(out.body) > self._options.max_bytes:
            return Refused(
                f"{out.address}: the body has {len(out.body):,} bytes, allowed are {self._options.max_bytes:,}"
            )
        kind, name, group = out.address
        if kind == "topic" and not group and name not in self._exchanges.known:
            return await self._exchanges.missing(name)
        return None

    def _publication(self, out: Outgoing, now: float) -> Publication:
        kind, name, group = out.address
        is_topic = kind == "topic" and not group
        publication = Publication(
            name if is_topic else "",
            routing_key(out.headers) if is_topic else queue_of(out.address),
            out.headers,
            out.body,
            int(now),
            mandatory=kind != "reply",  # a reply comes back as unroutable although it was delivered
        )
        if out.expires_at is not None and h.REPLY_TO not in out.headers:
            publication.expiration = max(0, int((out.expires_at - now) * 1000))
        if isinstance(out.native, AmqpOptions):
            publication.priority = out.native.priority
        return publication

    def _receipt(self, out: Outgoing, outcome: Outcome) -> Receipt | BusError:
        if outcome is _TAKEN:
            return Receipt(out.id)
        if outcome is not _UNROUTED:
            if isinstance(outcome, Refused):
                self._exchanges.known.discard(out.address.name)
            return cast(BusError, outcome)
        if out.address.kind == "topic" and not out.address.group:
            return (
                Refused(f"{out.address}: nobody subscribes to it") if out.mandatory else Receipt(out.id, unrouted=True)
            )
        return Refused(f"{out.address} is not there")

    # -- receiving

    @asynccontextmanager
    async def receiver(self, source: Source, *, prefetch: int) -> AsyncIterator[AmqpReceiver | ReplyInbox[Arrived]]:
        """A consumer on a channel of its own."""
        mailbox: Mailbox[Arrived] = Mailbox(self._clock)
        receiver: AmqpReceiver | ReplyInbox[Arrived]
        if source.kind == "reply":
            receiver = await inbox.open_inbox(self._wires, source, mailbox)
        else:
            receiver = await self._consumer(source, mailbox, prefetch)
        try:
            yield receiver
        finally:
            await receiver.close()

    async def _consumer(self, source: Source, mailbox: Mailbox[Arrived], prefetch: int) -> AmqpReceiver:
        wire = await self._wires.consuming()
        channel = await wire.channel()
        receiver = AmqpReceiver(source, channel, mailbox, self._copies)
        try:
            receiver.consumer = await channel.consume(queue_of(source), mailbox, prefetch)
        except BaseException:
            channel.abandon()
            raise
        return receiver

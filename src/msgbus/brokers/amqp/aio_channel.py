"""One channel of the aio-pika wire."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import cast

from aiormq.abc import AbstractConnection, DeliveredMessage
from aiormq.channel import Channel
from aiormq.exceptions import (
    AMQPError,
    ChannelInvalidStateError,
    DeliveryError,
    PublishError,
)
from pamqp.base import Frame
from pamqp.commands import Basic

from msgbus.brokers.amqp.aio_errors import gone, spoken, unhurt
from msgbus.brokers.amqp.aio_properties import from_pamqp, to_pamqp
from msgbus.brokers.amqp.errors import blame, receiver_end, refusal, rejected
from msgbus.brokers.amqp.wire import Arrived, Publication, Unrouted
from msgbus.brokers.mailbox import Mailbox
from msgbus.brokers.mq.errors import ServerSaid, caused, in_doubt
from msgbus.brokers.mq.target import PATIENCE
from msgbus.errors import BusError, Disconnected, ReceiverClosed, Refused, Unavailable

_ERRORS = (AMQPError, OSError, RuntimeError)  # ChannelInvalidStateError is a RuntimeError
_HEADER_ROOM = 100_000  # bytes of headers: the frame has 131,072


class AioChannel:
    """See wire.Channel."""

    def __init__(self, raw: Channel, connection: AbstractConnection) -> None:
        self.on_end: Callable[[], object] = lambda: None
        self._raw = raw
        self._connection = connection
        self._closed: BusError | None = None
        self._said: ServerSaid | None = None
        self._mailbox: Mailbox[Arrived] | None = None
        self._settling: deque[Callable[[], Awaitable[None]]] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        raw.closing.add_done_callback(self._ended)

    @property
    def closed(self) -> BusError | None:
        """Why it is dead."""
        if self._closed is None and not self._connection.is_opened:
            self.lost(Disconnected("the connection is lost"))
        return self._closed

    # -- publishing

    async def publish(self, batch: Sequence[Publication]) -> Sequence[BusError | None]:
        """A task a message: aiormq has nothing that sends many."""
        if self.closed is not None:
            raise Disconnected(f"not sent: {self._closed}") from self._closed
        if len(batch) == 1:
            return [await self._publish_one(batch[0])]
        tasks = [asyncio.ensure_future(self._publish_one(each)) for each in batch]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _publish_one(self, publication: Publication) -> BusError | None:
        try:
            properties = to_pamqp(publication)
            self._check_size(publication)
            await unhurt(self._connection.ready())
            await self._publish(publication, properties)
        except ValueError as error:
            return Refused(f"it does not fit into AMQP: {error}")
        except PublishError:
            return Unrouted(f"{publication.routing_key}: no queue took it")
        except DeliveryError:
            return rejected(publication)
        except _ERRORS as error:
            return self._unsent(publication, error)
        return None

    async def _publish(self, publication: Publication, properties: Basic.Properties) -> None:
        await unhurt(
            self._raw.basic_publish(
                publication.body,
                exchange=publication.exchange,
                routing_key=publication.routing_key,
                properties=properties,
                mandatory=publication.mandatory,
                wait=len(publication.body) > 4096,
            )
        )

    def _unsent(self, publication: Publication, error: Exception) -> BusError:
        said = spoken(error) or self._said
        if said is not None:
            return blame(publication, said)
        return in_doubt(gone(error), "confirm")

    @staticmethod
    def _check_size(publication: Publication) -> None:
        size = sum(len(name) + len(value.encode()) + 6 for name, value in publication.headers.items())
        if size > _HEADER_ROOM:
            raise ValueError(f"the headers have {size:,} bytes, this wire takes {_HEADER_ROOM:,}")

    async def bounce(self, publication: Publication) -> Arrived:
        """Publish what no queue takes; as the server gives it back."""
        try:
            with self._translating("a message"):
                await self._publish(publication, to_pamqp(publication))
        except PublishError as error:
            if error.message is not None:
                return _arrived(error.message)
        raise Unavailable("the server took a message that no queue was there for")

    # -- consuming

    async def consume(self, queue: str, mailbox: Mailbox[Arrived], prefetch: int) -> str:
        """aiormq makes a task a message; each only appends."""
        self._mailbox = mailbox

        async def on_message(message: DeliveredMessage) -> None:
            if self._closed is None:
                mailbox.items.append(_arrived(message))
                mailbox.wake()

        async def on_cancel(_: object) -> None:
            mailbox.end(ReceiverClosed("the server cancelled the consumer: its queue is gone or has moved"))

        self._raw.on_consumer_cancel_callbacks.add(on_cancel)
        with self._translating("Basic.Consume"):
            if prefetch:
                await unhurt(self._raw.basic_qos(prefetch_count=min(prefetch, 65_535)))
            answer = await unhurt(self._raw.basic_consume(queue, on_message, no_ack=not prefetch, timeout=PATIENCE))
        return answer.consumer_tag or ""

    async def cancel(self, consumer: str) -> None:
        """No new messages; the tasks of those that came before run first."""
        await self.call(Basic.Cancel(consumer_tag=consumer))
        await asyncio.sleep(0)

    def ack(self, acks: Sequence[tuple[int, bool]]) -> None:
        """Acknowledge: (tag, all up to it)."""
        ack = self._raw.basic_ack
        self._settle([partial(ack, tag, multiple, wait=False) for tag, multiple in acks])

    def requeue(self, tags: Sequence[int]) -> None:
        """Give messages back to their queue."""
        self._settle([partial(self._raw.basic_nack, tag, wait=False) for tag in tags])

    def _settle(self, calls: Sequence[Callable[[], Awaitable[None]]]) -> None:
        if self.closed is None:
            self._settling.extend(calls)
            if self._pump is None:
                self._pump = asyncio.ensure_future(self._send_settlements())

    async def _send_settlements(self) -> None:
        """In order: a `multiple` that overtook a single one would be an error."""
        try:
            while self._settling:
                await unhurt(self._settling.popleft()())
        except _ERRORS as error:
            self._end(self._translated(error))
        finally:
            self._pump = None

    # -- calls and the end

    async def call(self, method: Frame) -> Frame:
        """Call a synchronous method; its answer."""
        if self.closed is not None:
            raise self._closed or Disconnected("closed")
        with self._translating(method.name):
            return cast(Frame, await unhurt(self._raw.rpc(method, timeout=PATIENCE)))

    @contextmanager
    def _translating(self, what: str) -> Iterator[None]:
        """Raise what aiormq says as an error of msgbus. PublishError is for the caller."""
        try:
            yield
        except TimeoutError as error:
            raise Unavailable(f"the server did not answer {what} in {PATIENCE:g} s") from error
        except PublishError:
            raise
        except _ERRORS as error:
            translated = self._translated(error)
            raise translated from translated.__cause__

    def _translated(self, error: Exception) -> BusError:
        said = spoken(error) or self._said
        if said is not None:
            said.__cause__ = error
            return refusal(said.code, said.text)
        if isinstance(error, ChannelInvalidStateError) and self._closed is not None:
            return self._closed
        return gone(error) if not self._connection.is_opened else caused(ReceiverClosed(f"closed: {error!r}"), error)

    async def close(self) -> None:
        """Let settlements go out, then close it."""
        self.abandon()
        if self._closing is not None:
            await asyncio.wait([self._closing])

    def abandon(self) -> None:
        """Close it without waiting."""
        if self.closed is None:
            self._closed = ReceiverClosed("closed")
            self._closing = asyncio.ensure_future(self._close())

    async def _close(self) -> None:
        try:
            if self._pump is not None:
                await asyncio.wait([self._pump])
            await self._raw.close()
        finally:
            self.on_end()

    def _ended(self, closing: asyncio.Future[object]) -> None:
        error = None if closing.cancelled() else closing.exception()
        self._said = spoken(error)
        if self._said is not None:
            self._end(receiver_end(self._said.code, self._said.text))
        elif not self._connection.is_opened:
            self._end(gone(error))
        else:
            self._end(ReceiverClosed(f"the channel is closed: {error!r}"))
        self.on_end()

    def lost(self, error: BusError) -> None:
        """The connection is gone."""
        self._end(error)

    def _end(self, error: BusError) -> None:
        if self._closed is None:
            self._closed = error
        if self._mailbox is not None:
            self._mailbox.end(self._closed)


def _arrived(message: DeliveredMessage) -> Arrived:
    delivery = message.delivery
    redelivered = isinstance(delivery, Basic.Deliver) and bool(delivery.redelivered)
    tag = delivery.delivery_tag if isinstance(delivery, Basic.Deliver) else 0
    arrived = Arrived(0, tag or 0, redelivered, message.exchange or "", message.routing_key or "")
    from_pamqp(message.header.properties, arrived)
    arrived.body = message.body
    return arrived

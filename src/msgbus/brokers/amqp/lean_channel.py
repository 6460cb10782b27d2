"""One channel of the lean wire."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from pamqp.base import Frame
from pamqp.commands import Basic, Confirm
from pamqp.commands import Channel as Commands

from msgbus import headers as h
from msgbus.brokers.amqp import codec
from msgbus.brokers.amqp.confirms import Confirms
from msgbus.brokers.amqp.errors import blame, receiver_end, refusal, told
from msgbus.brokers.amqp.wire import Arrived, Publication
from msgbus.brokers.mailbox import Mailbox
from msgbus.brokers.mq.errors import in_doubt, said
from msgbus.brokers.mq.outcomes import Outcomes
from msgbus.brokers.mq.protocol import SocketProtocol
from msgbus.brokers.mq.target import PATIENCE
from msgbus.errors import BusError, Disconnected, ReceiverClosed, Refused, Unavailable


class Calls:
    """Callers that wait for answers, in the order in which they asked. A caller that went away keeps its place."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[asyncio.Future[Frame]] = deque()

    def expect(self) -> asyncio.Future[Frame]:
        """The next answer that nobody else expects."""
        waiter: asyncio.Future[Frame] = self._loop.create_future()
        self._waiting.append(waiter)
        return waiter

    def answer(self, frame: Frame) -> None:
        """An answer came."""
        if self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(frame)

    def fail(self, error: BusError) -> None:
        """No answer will come."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(error)


class LeanChannel:
    """See wire.Channel."""

    def __init__(self, line: SocketProtocol, number: int, frame_max: int, forget: Callable[[int], None]) -> None:
        self.number = number
        self.closed: BusError | None = None
        self.confirms = Confirms()
        self.mailbox: Mailbox[Arrived] | None = None
        self._line = line
        self._forget = forget
        self._calls = Calls(line.loop)
        self._bounced: asyncio.Future[Arrived] | None = None
        self._encoder = codec.Encoder(number, frame_max)
        self._gone: asyncio.Future[None] = line.loop.create_future()

    async def open(self, *, confirms: bool) -> None:
        """Open it; abandoned if that fails or is cancelled."""
        try:
            await self.call(Commands.Open())
            if confirms:
                await self.call(Confirm.Select())
        except BaseException:
            self.abandon()
            raise

    # -- publishing

    async def publish(self, batch: Sequence[Publication]) -> Sequence[BusError | None]:
        """Publish and wait for all confirms; see wire.Channel."""
        if self.closed is not None:
            raise Disconnected(f"not sent: {self.closed}") from self.closed
        entry, line = Outcomes(batch, self._line.loop), self._line
        encode, add = self._encoder.encode, self.confirms.add
        for place, publication in enumerate(batch):
            if line.held:
                await line.writable()
            if self._is_dead():  # it may have died while this waited
                entry.settle(place, self._unsent(publication))
                continue
            try:
                data = encode(publication)
            except ValueError as error:
                entry.settle(place, Refused(f"it does not fit into AMQP: {error}"))
                continue
            add(entry, place)
            line.write(data)
        if entry.left:
            await entry.done
        return entry.results

    async def bounce(self, publication: Publication) -> Arrived:
        """Publish what no queue takes; as the server gives it back."""
        if self.closed is not None:
            raise self.closed
        self._bounced = self._line.loop.create_future()
        while self._line.held:
            await self._line.writable()
        self._line.write(self._encoder.encode(publication))
        return await self._bounced

    def _is_dead(self) -> bool:
        return self.closed is not None

    def _unsent(self, publication: Publication) -> BusError:
        spoken = said(self.closed)
        if spoken is not None and not isinstance(self.closed, Disconnected):
            return blame(publication, spoken)
        return Disconnected(f"not sent: {self.closed}")

    # -- consuming

    async def consume(self, queue: str, mailbox: Mailbox[Arrived], prefetch: int) -> str:
        """Have messages put into `mailbox`; see wire.Channel."""
        self.mailbox = mailbox
        if prefetch:
            await self.call(Basic.Qos(prefetch_count=min(prefetch, 65_535)))
        answer = await self.call(Basic.Consume(queue=queue, no_ack=not prefetch))
        return str(answer["consumer_tag"])

    async def cancel(self, consumer: str) -> None:
        """No new messages."""
        await self.call(Basic.Cancel(consumer_tag=consumer))

    def ack(self, acks: Sequence[tuple[int, bool]]) -> None:
        """Acknowledge: (tag, all up to it)."""
        if self.closed is None:
            self._line.write(codec.ack_frames(self.number, acks))

    def requeue(self, tags: Sequence[int]) -> None:
        """Give messages back to their queue."""
        if self.closed is None:
            self._line.write(codec.requeue_frames(self.number, tags))

    # -- calls and the end

    async def call(self, method: Frame) -> Frame:
        """Call a synchronous method; its answer."""
        if self.closed is not None:
            raise self.closed
        data = codec.method_frame(self.number, method)
        waiter = self._calls.expect()
        self._line.write(data)
        try:
            async with asyncio.timeout(PATIENCE):
                return await waiter
        except TimeoutError as error:
            raise Unavailable(f"the server did not answer {method.name} in {PATIENCE:g} s") from error

    async def close(self) -> None:
        """Close it and wait until the server knows."""
        self.abandon()
        await asyncio.wait([self._gone])

    def abandon(self) -> None:
        """Close it without waiting."""
        if self.closed is None:
            self._line.write(codec.method_frame(self.number, Commands.Close(200, "", 0, 0)))
            self._end(ReceiverClosed("closed"))

    def received(self, frame: Frame) -> None:
        """A method from the server that comes not with every message."""
        if isinstance(frame, Commands.Close):
            self._closed_by_server(frame)
        elif isinstance(frame, Commands.CloseOk):
            self.gone()
        elif isinstance(frame, Basic.Cancel):
            if self.mailbox is not None:
                self.mailbox.end(ReceiverClosed("the server cancelled the consumer: its queue is gone or has moved"))
        elif isinstance(frame, Commands.Flow):
            self._line.write(codec.method_frame(self.number, Commands.FlowOk(frame.active)))
        elif self.closed is None:
            self._calls.answer(frame)

    def returned(self, message: Arrived) -> None:
        """A mandatory message came back."""
        if self._bounced is not None and not self._bounced.done():
            self._bounced.set_result(message)
            return
        sent = message.headers.get(h.ID)
        self.confirms.returned(message.exchange, message.routing_key, lambda each: each.headers.get(h.ID) == sent)

    def _closed_by_server(self, frame: Commands.Close) -> None:
        self._line.write(codec.method_frame(self.number, Commands.CloseOk()))
        code, text = frame.reply_code or 0, frame.reply_text or ""
        if self.closed is None:
            self._calls.fail(refusal(code, text))
            cause = told(code, text)
            self.confirms.fail(lambda publication: blame(publication, cause))
            self._end(receiver_end(code, text))
        self.gone()

    def lost(self, error: BusError) -> None:
        """The connection is gone."""
        if self.closed is None:
            self._end(error)
        self.gone()

    def gone(self) -> None:
        """The server has forgotten it."""
        self._forget(self.number)
        if not self._gone.done():
            self._gone.set_result(None)

    def _end(self, error: BusError) -> None:
        self.closed = error
        self._calls.fail(error)
        if self._bounced is not None and not self._bounced.done():
            self._bounced.set_exception(error)
        unknown = in_doubt(error, "confirm")
        self.confirms.fail(lambda _: unknown)
        if self.mailbox is not None:
            self.mailbox.end(error)

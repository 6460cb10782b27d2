"""The lean wire: an asyncio.Protocol over the codec. Many messages a wake-up, one write a turn of the loop."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from pamqp.base import Frame
from pamqp.commands import Connection

from msgbus.brokers.amqp import codec
from msgbus.brokers.amqp.errors import connection_end
from msgbus.brokers.amqp.lean_channel import Calls, LeanChannel
from msgbus.brokers.amqp.settings import Target
from msgbus.brokers.amqp.wire import Arrived
from msgbus.brokers.mq.errors import caused, connecting, lost
from msgbus.brokers.mq.heartbeats import Heartbeats
from msgbus.brokers.mq.protocol import SocketProtocol
from msgbus.clock import Clock
from msgbus.errors import BusError, Disconnected, Refused, Unavailable

_GOODBYE = 2.0  # seconds that the end of a connection may take
_CAPABILITIES = (
    "authentication_failure_close",
    "basic.nack",
    "connection.blocked",
    "consumer_cancel_notify",
    "publisher_confirms",
)


class LeanWire(SocketProtocol):
    """One connection to one host; see wire.Wire."""

    def __init__(self, target: Target, host: tuple[str, int], clock: Clock) -> None:
        super().__init__(asyncio.get_running_loop())
        self.closed: BusError | None = Disconnected("not connected")
        self.frame_max = target.options.frame_max
        self._target = target
        self._host = host
        self._decoder = codec.Decoder()
        self._calls = Calls(self.loop)
        self._channels: dict[int, LeanChannel] = {}
        self._most_channels = 2047
        self._opening = False
        self._beats = Heartbeats(clock, self, codec.BEAT, self._break)
        self._over: asyncio.Future[None] = self.loop.create_future()

    # -- opening and closing

    async def open(self) -> None:
        """Connect, say who we are, agree on sizes."""
        try:
            async with connecting(self._host, self._target.options.timeout):
                self._opening = True
                await self.connect(self._host, self._target.context())
                await self._handshake()
        finally:
            self._opening = False
            if self.closed is not None:
                self.abort()

    async def _handshake(self) -> None:
        started = self._calls.expect()
        self.write(codec.PROTOCOL)
        start = cast(Connection.Start, await started)
        tune = cast(Connection.Tune, await self._call(self._start_ok(start)))
        options = self._target.options
        self.frame_max = _smaller(options.frame_max, tune.frame_max)
        self._decoder.largest = self.frame_max
        self._most_channels = _smaller(2047, tune.channel_max)
        beat = _smaller(options.heartbeat, tune.heartbeat) if options.heartbeat else 0
        self.write(codec.method_frame(0, Connection.TuneOk(self._most_channels, self.frame_max, beat)))
        await self._call(Connection.Open(virtual_host=self._target.vhost))
        self.closed = None
        self._beats.start(beat, beat)

    def _start_ok(self, start: Connection.Start) -> Connection.StartOk:
        target = self._target
        mechanism = target.options.auth.upper()
        if mechanism not in str(start.mechanisms).split():
            raise Refused(f"{target}: the server offers {start.mechanisms}, not {mechanism}")
        response = f"\0{target.user}\0{target.password}" if mechanism == "PLAIN" else ""
        properties: dict[str, Any] = {
            "product": "msgbus",
            "connection_name": target.options.name,
            "capabilities": dict.fromkeys(_CAPABILITIES, True),
        }
        return Connection.StartOk(properties, mechanism, response, "en_US")

    async def close(self) -> None:
        """Say goodbye; harmless when not connected."""
        try:
            if self.closed is None:
                self.write(codec.method_frame(0, Connection.Close(200, "", 0, 0)))
                self._lose(Disconnected("closed"))
                self.flush()
                await asyncio.wait([self._over], timeout=_GOODBYE)
        finally:
            self.abort()

    async def channel(self, *, confirms: bool = False) -> LeanChannel:
        """Open a channel."""
        if self.closed is not None:
            raise self.closed
        number = next((n for n in range(1, self._most_channels + 1) if n not in self._channels), 0)
        if not number:
            raise Unavailable(f"{self._target}: all {self._most_channels} channels are in use")
        channel = self._channels[number] = LeanChannel(self, number, self.frame_max, self._drop)
        await channel.open(confirms=confirms)
        return channel

    def _drop(self, channel: int) -> None:
        """A channel's number is free again."""
        self._channels.pop(channel, None)
        self._decoder.forget(channel)

    async def _call(self, method: Frame) -> Frame:
        waiter = self._calls.expect()
        self.write(codec.method_frame(0, method))
        return await waiter

    # -- reading

    def data_received(self, data: bytes) -> None:
        """Hand out what came."""
        self.heard = True
        try:
            events = self._decoder.feed(data)
        except codec.FrameError as error:
            self._break(caused((Refused if self._opening else Disconnected)(str(error)), error))
            return
        channels, last = self._channels, None
        for event in events:
            channel = channels.get(event.channel)
            if channel is None:
                self._unknown(event)
            elif event.__class__ is Arrived:
                if channel.mailbox is not None and channel.closed is None:
                    channel.mailbox.items.append(event)  # pyright: ignore[reportArgumentType] - a Confirm was handled above
                    if channel is not last and last is not None and last.mailbox is not None:
                        last.mailbox.wake()
                    last = channel
            else:
                self._rarer(channel, event)
        if last is not None and last.mailbox is not None:
            last.mailbox.wake()

    @staticmethod
    def _rarer(channel: LeanChannel, event: codec.Event) -> None:
        if isinstance(event, codec.Confirm):
            channel.confirms.confirm(event.tag, multiple=event.multiple, ok=event.ok)
        elif isinstance(event, codec.Method):
            channel.received(event.frame)
        elif isinstance(event, codec.Returned):
            channel.returned(event)

    def _unknown(self, event: codec.Event) -> None:
        """Channel 0, or one that is closed already."""
        if not isinstance(event, codec.Method) or event.channel:
            return
        frame = event.frame
        if isinstance(frame, Connection.Blocked):
            self.block(frame.reason or "the server blocks publishers")
        elif isinstance(frame, Connection.Unblocked):
            self.block("")
        elif isinstance(frame, Connection.Close):
            self._closed_by_server(frame)
        elif isinstance(frame, Connection.CloseOk):
            self._finish()
        else:
            self._calls.answer(frame)

    def _closed_by_server(self, frame: Connection.Close) -> None:
        self.write(codec.method_frame(0, Connection.CloseOk()))
        self.flush()
        error = connection_end(frame.reply_code or 0, frame.reply_text or "", opening=self._opening)
        self._lose(error)
        self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._lose(lost(exc, opening=self._opening))
        if not self._over.done():
            self._over.set_result(None)

    def _finish(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def _break(self, error: BusError) -> None:
        self._lose(error)
        self.abort()

    def _lose(self, error: BusError) -> None:
        """The first reason stays."""
        if self.closed is not None and not self._opening:
            return
        self.closed = error
        self._opening = False
        self._beats.stop()
        self._calls.fail(error)
        for channel in list(self._channels.values()):
            channel.lost(error)
        self.free()


def _smaller(ours: int, theirs: int | None) -> int:
    """Of two limits where 0 is none."""
    return min(ours, theirs) if ours and theirs else ours or theirs or 65_535

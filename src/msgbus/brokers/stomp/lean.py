"""The lean wire: an asyncio.Protocol over the codec. Many messages a wake-up, one write a turn of the loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping

from msgbus.brokers.mq.errors import caused, connecting, lost
from msgbus.brokers.mq.heartbeats import Heartbeats
from msgbus.brokers.mq.protocol import SocketProtocol
from msgbus.brokers.stomp.codec import BEAT, Decoder, Encoder, Frame, FrameError
from msgbus.brokers.stomp.errors import connect_error
from msgbus.brokers.stomp.settings import Target, connect_headers
from msgbus.brokers.stomp.wire import Ear
from msgbus.clock import Clock
from msgbus.errors import BusError, Disconnected, Refused

_FEW = 4096  # bytes
_QUICK: int = getattr(socket, "TCP_QUICKACK", 0)
"""ActiveMQ leaves Nagle's algorithm on: after a small frame it waits for the acknowledgement of TCP, which Linux would
delay by 40 ms where nothing is to be sent."""


class LeanLine(SocketProtocol):
    """See wire.Line."""

    def __init__(self, target: Target, host: tuple[str, int], clock: Clock) -> None:
        super().__init__(asyncio.get_running_loop())
        self._target = target
        self._host = host
        self._ear: Ear | None = None
        self._answer: asyncio.Future[Frame] = self.loop.create_future()
        self._decoder = Decoder(body=max(target.options.max_bytes * 2, 1 << 24))
        self._speak("1.0")
        self._late: socket.socket | None = None
        self._lost = False
        self._beats = Heartbeats(clock, self, BEAT, self._break)

    # -- opening and closing

    async def open(self, ear: Ear) -> Mapping[str, str]:
        """Connect and say who we are."""
        try:
            async with connecting(self._host, self._target.options.timeout):
                connected = await self._connect()
        finally:
            self._ear = ear
            if not self._answer.done() or self._answer.cancelled() or self._answer.exception() is not None:
                self._lost = True
                self.abort()
        return connected

    async def _connect(self) -> Mapping[str, str]:
        await self.connect(self._host, self._target.context())
        beat = self._target.options.beat
        headers = connect_headers(self._target) | {"heart-beat": f"{beat},{beat}"}
        self.write(self.encode(Frame("CONNECT", headers)))
        connected = (await self._answer).headers
        self._speak(connected.get("version", "1.0"))
        self._begin_beats(beat, connected.get("heart-beat", "0,0"))
        if _QUICK and self.transport is not None and "ActiveMQ" in connected.get("server", ""):
            self._late = self.transport.get_extra_info("socket")
        return connected

    def _speak(self, version: str) -> None:
        encoder = Encoder(version)
        self.encode, self.encode_ids = encoder.encode, encoder.encode_ids

    async def end(self) -> None:
        """Close the socket."""
        self.flush()
        self._stop()
        self.abort()

    def _stop(self) -> None:
        self._lost = True
        self._beats.stop()
        self.free()

    # -- reading

    def data_received(self, data: bytes) -> None:
        """Hand out what came."""
        self.heard = True
        if self._lost:
            return
        if self._late is not None and len(data) < _FEW:
            self._late.setsockopt(socket.IPPROTO_TCP, _QUICK, 1)  # it holds for a moment only
        try:
            frames = self._decoder.feed(data)
        except FrameError as error:
            wrong = Disconnected if self._answer.done() else Refused
            self._break(caused(wrong(f"{self._target}: {error}"), error))
            return
        if self._ear is not None:
            self._ear.heard(frames)
        elif frames:
            self._answered(frames)

    def _answered(self, frames: list[Frame]) -> None:
        """The first frame answers CONNECT; nothing else comes before we have asked for something."""
        if self._answer.done():
            return
        if frames[0].command == "CONNECTED":
            self._answer.set_result(frames[0])
        else:
            self._answer.set_exception(connect_error(frames[0]))

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._break(lost(exc, opening=not self._answer.done()))

    def _break(self, error: BusError) -> None:
        """The first reason is told."""
        if not self._answer.done():
            self._answer.set_exception(error)
        if self._lost:
            return
        self._stop()
        self.abort()
        if self._ear is not None:
            self._ear.lost(error)

    # -- heart-beats

    def _begin_beats(self, ours: int, theirs: str) -> None:
        """Say something as often as the server asks for; hear something as often as it promised."""
        promised, asked = (int(part) if part.strip().isdecimal() else 0 for part in f"{theirs},0".split(",")[:2])
        beat = ours and asked and max(ours, asked) / 1000
        self._beats.start(beat, ours and promised and max(ours, promised) / 1000)

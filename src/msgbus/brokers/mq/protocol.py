"""A socket of our own, as an asyncio.Protocol: one write a turn of the loop, and back-pressure for publishers."""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

_GATHER = 256 * 1024  # bytes that are written without waiting for the end of the turn
HIGH = 1024 * 1024
"""Bytes on their way to the socket at which publishers wait."""


class Gate:
    """Where publishers wait. `held`: they must."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.held = False
        self._waiting: list[asyncio.Future[None]] = []

    async def writable(self) -> None:
        """Until publishers may go on, or the connection is gone."""
        while self.held:
            waiter: asyncio.Future[None] = self.loop.create_future()
            self._waiting.append(waiter)
            await waiter

    def hold(self, held: bool) -> None:
        """Have them wait, or wake them."""
        self.held = held
        if not held:
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(None)


class SocketProtocol(Gate, asyncio.Protocol):
    """The half of a wire that knows no frames.

    `held`: publishers wait, since the other side does not take what is written or said so in `blocked`.
    `spoke`, `heard`: something was written, or came; whoever minds heartbeats puts them back.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.blocked = ""
        self.spoke = self.heard = False
        self.transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._paused = self._ended = False

    async def connect(self, host: tuple[str, int], context: ssl.SSLContext | None) -> None:
        """Open the socket. Raises OSError."""
        name = host[0] if context is not None else None
        await self.loop.create_connection(lambda: self, *host, ssl=context, server_hostname=name)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH)

    def abort(self) -> None:
        """Close the socket; what was not sent is dropped."""
        if self.transport is not None:
            self.transport.abort()

    def write(self, data: bytes) -> None:
        """Send it in this turn of the loop."""
        if not self._out:
            self.loop.call_soon(self.flush)
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > _GATHER:
            self.flush()

    def flush(self) -> None:
        """Send now what waits for the end of the turn."""
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            self._out_bytes = 0
            self.spoke = True
            if self.transport is not None and not self.transport.is_closing():
                self.transport.write(data)

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._paused = True
        self._hold()

    def resume_writing(self) -> None:
        """The transport's buffer has emptied."""
        self._paused = False
        self._hold()

    def block(self, reason: str) -> None:
        """The server makes publishers wait; "" ends that."""
        self.blocked = reason
        self._hold()

    def free(self) -> None:
        """The connection is gone: nobody waits any longer."""
        self._ended = True
        self.block("")

    def _hold(self) -> None:
        self.hold(not self._ended and (self._paused or bool(self.blocked)))

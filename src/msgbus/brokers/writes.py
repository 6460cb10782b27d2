"""What the wires of message brokers have in common: connecting, and one write a turn of the loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from msgbus.brokers.urls import Hosts
from msgbus.errors import BusError, Disconnected, Refused

_GATHER = 256 * 1024  # bytes that are written without waiting for the end of the turn
_HIGH = 1024 * 1024  # bytes in the transport's buffer at which publishers wait


class Opens(Protocol):
    """A connection that is not open yet."""

    async def open(self) -> None:
        """Raises Refused where no other host would help, another BusError where one may."""
        ...


W = TypeVar("W", bound=Opens)


class Failover:
    """Opens a connection to the host that answered last, else to the next ones in turn."""

    def __init__(self, hosts: Hosts, what: object) -> None:
        self._hosts = hosts
        self._what = what
        self._last = 0

    async def open(self, make: Callable[[tuple[str, int]], W]) -> W:
        """The first that opens. Raises Refused at once, or what the last host said."""
        error: BusError | None = None
        for step in range(len(self._hosts)):
            place = (self._last + step) % len(self._hosts)
            wire = make(self._hosts[place])
            try:
                await wire.open()
            except Refused:
                raise
            except BusError as failed:
                error = failed
            else:
                self._last = place
                return wire
        raise error or Disconnected(f"{self._what}: no host")


@asynccontextmanager
async def connecting(host: tuple[str, int], timeout: float) -> AsyncIterator[None]:
    """Opening a connection within `timeout` seconds: what goes wrong is Disconnected, or Refused where TLS is."""
    place = f"{host[0]}:{host[1]}"
    try:
        async with asyncio.timeout(timeout):
            yield
    except ssl.SSLCertVerificationError as error:
        raise Refused(f"{place}: its certificate is not trusted: {error.verify_message}") from error
    except TimeoutError as error:
        raise Disconnected(f"{place} did not answer in {timeout:g} s") from error
    except ssl.SSLError as error:
        raise Refused(f"{place}: no TLS connection: {error.reason or error}") from error
    except OSError as error:
        raise Disconnected(f"{place}: {error}") from error


class GatheredWrites(asyncio.Protocol):
    """The writing half of a wire.

    `held`: publishers wait, since the other side does not take what is written or said so in `blocked`.
    `spoke`: something was written; whoever sends heartbeats puts it back.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.held = False
        self.blocked = ""
        self.spoke = False
        self.transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._paused = self._ended = False
        self._waiting: list[asyncio.Future[None]] = []

    def begin(self, transport: asyncio.Transport) -> None:
        """The socket is there."""
        self.transport = transport
        transport.set_write_buffer_limits(high=_HIGH)

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

    async def writable(self) -> None:
        """Until publishers may go on, or the connection is gone."""
        while self.held:
            waiter: asyncio.Future[None] = self.loop.create_future()
            self._waiting.append(waiter)
            await waiter

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
        self.held = not self._ended and (self._paused or bool(self.blocked))
        if not self.held:
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(None)

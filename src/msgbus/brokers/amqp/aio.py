"""The aio-pika wire, `?client=aio-pika`: aiormq, the engine of aio-pika, behind the same seam.

It goes through aiormq's public API, one layer below aio-pika's messages and queues: those would be made only to be
taken apart again. Reconnecting is the core's, so aio-pika's robust connection has no place here.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

import aiormq
from aiormq.channel import Channel
from aiormq.exceptions import (
    AMQPConnectionError,
    AMQPError,
    AuthenticationError,
    ConnectionClosed,
    InvalidFrameError,
    ProbableAuthenticationError,
)
from yarl import URL

from msgbus.brokers.amqp.aio_channel import AioChannel
from msgbus.brokers.amqp.aio_errors import gone, unhurt
from msgbus.brokers.amqp.errors import ACCESS_REFUSED, connection_end
from msgbus.brokers.amqp.settings import Target
from msgbus.brokers.mq.errors import caused, connecting, not_opened
from msgbus.clock import Clock
from msgbus.errors import BusError, Disconnected, Refused, Unavailable


class AioWire:
    """One connection to one host; see wire.Wire."""

    def __init__(self, target: Target, host: tuple[str, int], clock: Clock) -> None:
        self._target = target
        self._host = host
        self._connection: aiormq.Connection | None = None
        self._closed: BusError | None = Disconnected("not connected")
        self._channels: set[AioChannel] = set()

    @property
    def closed(self) -> BusError | None:
        """Why it is not connected."""
        if self._closed is None and (self._connection is None or not self._connection.is_opened):
            self._lost(Disconnected("the connection is lost"))
        return self._closed

    @property
    def blocked(self) -> str:
        """aiormq keeps the server's reason to itself, and tells only through `ready` that there is one."""
        if self.closed is not None or self._connection is None:
            return ""
        return "" if _is_ready(self._connection) else "a memory or disk alarm"

    async def open(self) -> None:
        """Connect, say who we are, agree on sizes."""
        target = self._target
        async with connecting(self._host, target.options.timeout):
            try:
                self._connection = aiormq.Connection(_url(target, self._host), context=target.context())
                await unhurt(self._connection.connect())
            except (AMQPError, OSError) as error:
                cause = error.__cause__ if isinstance(error.__cause__, ssl.SSLError) else error  # aiormq hides it
                raise _opening_error(target, f"{self._host[0]}:{self._host[1]}", cause) from error
        self._closed = None
        self._connection.closing.add_done_callback(self._ended)

    async def close(self) -> None:
        """Say goodbye."""
        if self._closed is None and self._connection is not None:
            self._lost(Disconnected("closed"))
            await self._connection.close()

    async def channel(self, *, confirms: bool = False) -> AioChannel:
        """Open a channel."""
        closed, connection = self.closed, self._connection
        if closed is not None or connection is None:
            raise closed or Disconnected("not connected")
        try:
            raw = cast(Channel, await unhurt(connection.channel(publisher_confirms=confirms)))
        except (AMQPError, OSError, RuntimeError) as error:
            raise caused(self.closed or Unavailable(f"no channel: {error}"), error) from error
        channel = AioChannel(raw, connection)
        self._channels.add(channel)
        channel.on_end = lambda: self._channels.discard(channel)
        return channel

    def _ended(self, closing: asyncio.Future[object]) -> None:
        error = None if closing.cancelled() else closing.exception()
        self._lost(gone(error))

    def _lost(self, error: BusError) -> None:
        if self._closed is None:
            self._closed = error
            for channel in list(self._channels):
                channel.lost(error)


def _is_ready(connection: aiormq.Connection) -> bool:
    """Whether `ready` would return without waiting."""
    waiting = connection.ready()
    try:
        waiting.send(None)
    except StopIteration:
        return True
    waiting.close()
    return False


def _url(target: Target, host: tuple[str, int]) -> URL:
    options = target.options
    query = {"name": options.name, "heartbeat": str(options.heartbeat), "auth": options.auth}
    return URL.build(
        scheme="amqps" if target.tls else "amqp",
        user=target.user,
        password=target.password,
        host=host[0],
        port=host[1],
        path="/" + ("" if target.vhost == "/" else target.vhost.replace("/", "%2F")),
        query=query,
    )


def _opening_error(target: Target, place: str, error: Exception) -> BusError:
    """aiormq reads no more of a refused Connection.Open than that it is a Connection.Close: that is the vhost."""
    if isinstance(error, ssl.SSLError):
        return not_opened(place, error)
    if isinstance(error, ProbableAuthenticationError | AuthenticationError):
        return caused(connection_end(ACCESS_REFUSED, str(error), opening=True), error)
    if isinstance(error, InvalidFrameError) and "Connection.Close" in str(error):
        return Refused(f"{place}: the server refused the virtual host {target.vhost!r}")
    if isinstance(error, ConnectionClosed) and error.args and isinstance(error.args[0], int):
        return connection_end(error.args[0], str(error.args[-1]), opening=True)
    if isinstance(error, AMQPError) and not isinstance(error, AMQPConnectionError):
        return Refused(f"{place}: {error!r}")
    return Disconnected(f"{place}: {error!r}")

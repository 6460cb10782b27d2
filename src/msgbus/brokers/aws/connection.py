"""One HTTP/1.1 connection that carries one request at a time."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Protocol, cast

from msgbus.brokers.aws.failures import (
    AnswerTimeoutError,
    ConnectError,
    ConnectionClosedError,
    HttpError,
    PoolClosedError,
)
from msgbus.brokers.aws.response import Response, ResponseParser
from msgbus.clock import Clock, TimerHandle


class _Transport(Protocol):
    """What is asked of a transport, whichever event loop made it."""

    def write(self, data: bytes) -> None: ...
    def abort(self) -> None: ...


class Connection(asyncio.Protocol):
    """A connection of a `Pool`.

    `requests`: how many it has carried. `idle_since`: `Clock.now()` of its last use. After any trouble, a
    timeout or a cancellation it is `closed`: a late answer must not be taken for that to another request.
    """

    def __init__(self, clock: Clock, limit: int, on_lost: Callable[[Connection], object]) -> None:
        self._clock = clock
        self._parser = ResponseParser(limit)
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Response] | None = None
        self._transport: _Transport | None = None
        self._timer: TimerHandle | None = None
        self._rings = float("inf")  # when it does, on the clock
        self._deadline = 0.0  # of the request under way
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self.closed = False
        self.requests = 0
        self.idle_since = clock.now()

    async def request(self, data: bytes, timeout: float) -> Response:
        """Send a whole request and wait for the whole answer, at most `timeout` seconds.

        Raises an HttpError. Cancelled, it closes the connection.
        """
        self.requests += 1
        if self.closed or self._transport is None:
            raise ConnectionClosedError("the connection was closed before the request", started=False)
        answer: asyncio.Future[Response] = self._loop.create_future()
        self._answer = answer
        self._parser.begin()
        self._transport.write(data)
        self._watch(timeout)
        try:
            return await answer
        except asyncio.CancelledError:
            self.close()
            if not answer.cancelled():
                answer.exception()  # seen: else the loop would complain that nobody looked at it
            raise
        finally:
            self._answer = None
            self.idle_since = self._clock.now()

    def close(self, reason: HttpError | None = None) -> None:
        """Drop the connection at once; a request under way fails with `reason`."""
        self._fail(reason or PoolClosedError("the client was closed"))

    def _watch(self, timeout: float) -> None:
        """One timer serves request after request: setting and cancelling one for each costs more than signing it."""
        self._deadline = self._clock.now() + timeout
        if self._deadline < self._rings:
            self._unwatch()
            self._rings = self._deadline
            self._timer = self._clock.call_later(timeout, self._ring)

    def _ring(self) -> None:
        self._unwatch()
        if self._answer is None or self._answer.done():
            return
        left = self._deadline - self._clock.now()
        if left > 0:
            self._watch(left)
        else:
            self._fail(AnswerTimeoutError("no whole answer within the timeout"))

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._rings = float("inf")

    def _fail(self, error: HttpError) -> None:
        self.closed = True
        self._unwatch()
        if self._transport is not None:
            self._transport.abort()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def _take(self, response: Response | None) -> None:
        if response is None or self._answer is None or self._answer.done():
            return
        self._answer.set_result(response)
        if not self._parser.keep_alive:
            self._fail(PoolClosedError("the server ends the connection after this answer"))

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(_Transport, transport)  # uvloop's is no asyncio.Transport

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():  # else it would answer the next request
            self.close()
            return
        try:
            self._take(self._parser.feed(data))
        except HttpError as error:
            self._fail(error)

    def eof_received(self) -> None:
        try:
            self._take(self._parser.finish())
        except HttpError as error:
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        text = f"the server closed the connection{f': {exc}' if exc else ''}"
        self._fail(ConnectionClosedError(text, started=self._parser.started))
        if not self.lost.done():
            self.lost.set_result(None)
        self._on_lost(self)


async def connect(
    host: str, port: int, tls: ssl.SSLContext | None, timeout: float, make: Callable[[], Connection]
) -> Connection:
    """Open a connection within `timeout` seconds, TLS included. Raises ConnectError."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            _, connection = await loop.create_connection(make, host, port, ssl=tls)
    except TimeoutError as error:
        raise ConnectError(f"no connection to {host}:{port} within {timeout:g} s") from error
    except (OSError, ssl.SSLError) as error:
        raise ConnectError(f"no connection to {host}:{port}: {error}") from error
    return connection

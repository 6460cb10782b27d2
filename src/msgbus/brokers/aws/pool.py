"""A bounded pool of keep-alive connections to one endpoint, served in the order of asking."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque

from msgbus.brokers.aws.connection import Connection, connect
from msgbus.brokers.aws.failures import ConnectionClosedError, PoolBusyError, PoolClosedError
from msgbus.brokers.aws.response import Response
from msgbus.brokers.aws.settings import AwsSettings
from msgbus.clock import Clock


class Pool:
    """Connections to one host and port, at most `settings.connections` at a time.

    An idle one is not used again after `settings.keep_alive` seconds, because servers drop idle ones (and a load
    balancer may do so without a word).
    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, settings: AwsSettings, clock: Clock) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._settings = settings
        self._clock = clock
        self._open: set[Connection] = set()
        self._idle: deque[Connection] = deque()  # right: used last
        self._taken = 0  # places in use or promised; idle connections hold one too
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._closed = False

    async def request(self, data: bytes, timeout: float) -> Response:
        """Send a whole request on a free connection, or a new one; `timeout` seconds, waiting included.

        A used connection that ends without a byte of an answer had been given up by the server:
        the request is sent once more, on a new connection. Raises any HttpError.
        """
        deadline = self._clock.now() + timeout
        connection = self._pop_idle() or await self._wait_for_place(timeout)
        try:
            if connection is None:
                connection = await self._connect(deadline)
            try:
                return await connection.request(data, deadline - self._clock.now())
            except ConnectionClosedError as error:
                if error.started or not connection.requests > 1:
                    raise
            connection = await self._connect(deadline)
            return await connection.request(data, deadline - self._clock.now())
        finally:
            self._give_back(connection)

    async def close(self) -> None:
        """Drop all connections, those in use too, and wait for that. Whoever waits gets PoolClosedError."""
        self._closed = True
        while self._waiters:
            self._wake(PoolClosedError("the client was closed"))
        connections = list(self._open)
        for connection in connections:
            connection.close()
        if connections:
            await asyncio.wait([connection.lost for connection in connections])

    def _pop_idle(self) -> Connection | None:
        """The connection that was used last, and too old ones dropped."""
        oldest = self._clock.now() - self._settings.keep_alive
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle.popleft().close()
            self._taken -= 1
        return self._idle.pop() if self._idle else None

    async def _wait_for_place(self, timeout: float) -> Connection | None:
        """A place in the pool, with the connection of whoever left it, or None: a new one is to be made."""
        if self._closed:
            raise PoolClosedError("the client was closed")
        if self._taken < self._settings.connections:
            self._taken += 1
            return None
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        timer = self._clock.call_later(timeout, lambda: self._expire(waiter, timeout))
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._give_back(waiter.result())  # it was ours already: the next in line has it
            raise
        finally:
            timer.cancel()

    def _expire(self, waiter: asyncio.Future[Connection | None], timeout: float) -> None:
        if not waiter.done():
            self._waiters.remove(waiter)
            limit = self._settings.connections
            waiter.set_exception(PoolBusyError(f"all {limit} connections stayed busy for {timeout:g} s"))

    async def _connect(self, deadline: float) -> Connection:
        timeout = min(self._settings.connect_timeout, max(0.0, deadline - self._clock.now()))
        connection = await connect(self._host, self._port, self._tls, timeout, self._make)
        if not connection.lost.done():
            self._open.add(connection)
        if self._closed:
            connection.close()
            raise PoolClosedError("the client was closed")
        return connection

    def _make(self) -> Connection:
        return Connection(self._clock, self._settings.max_response, self._on_lost)

    def _on_lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
            self._taken -= 1

    def _give_back(self, connection: Connection | None) -> None:
        """Pass the place on to the first who waits, or keep the connection for later."""
        if connection is not None and connection.closed:
            connection = None
        if self._wake(connection):
            return
        if connection is None:
            self._taken -= 1
        else:
            self._idle.append(connection)

    def _wake(self, result: Connection | PoolClosedError | None) -> bool:
        """Give `result` to the first who still waits; False where nobody does."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if waiter.done():
                continue
            if isinstance(result, PoolClosedError):
                waiter.set_exception(result)
            else:
                waiter.set_result(result)
            return True
        return False

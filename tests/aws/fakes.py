"""A clock with hands to turn, and an HTTP server that misbehaves as told."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

POST = b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n"


class _Timer:
    def __init__(self, at: float, callback: Callable[[], object]) -> None:
        self.at = at
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class HandClock:
    """A `Clock` that stands still until `advance`. `wrong`: seconds that its Unix time is off."""

    def __init__(self, wrong: float = 0.0) -> None:
        self._now = 1000.0
        self._wrong = wrong
        self.timers: list[_Timer] = []

    def now(self) -> float:
        return self._now

    def time(self) -> float:
        return time.time() + self._wrong

    def call_later(self, delay: float, callback: Callable[[], object]) -> _Timer:
        self.timers.append(_Timer(self._now + delay, callback))
        return self.timers[-1]

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    def advance(self, seconds: float) -> None:
        """Turn the hands; what is due by then rings."""
        self._now += seconds
        due = [timer for timer in self.timers if timer.at <= self._now and not timer.cancelled]
        self.timers = [timer for timer in self.timers if timer.at > self._now]
        for timer in due:
            timer.callback()


@dataclass
class Request:
    """A request that the server read."""

    line: str
    headers: dict[str, str]
    body: bytes


def answer(body: bytes = b"{}", status: int = 200, **headers: str) -> bytes:
    """A whole answer; `_` in header names stands for `-`."""
    lines = [f"HTTP/1.1 {status} Status", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Peer:
    """The server's end of one connection. `number` counts connections from 1."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self._reader = reader
        self._writer = writer

    async def read(self) -> Request:
        """The next request; IncompleteReadError or ConnectionError when the client is gone."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
        body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return Request(head[0], headers, body)

    async def send(self, *pieces: bytes) -> None:
        """Send pieces, each for itself."""
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
            await asyncio.sleep(0)

    async def gone(self) -> None:
        """Wait until the client closes; fails if it sends more."""
        with contextlib.suppress(ConnectionError):
            assert await self._reader.read() == b""

    def close(self) -> None:
        self._writer.close()


Script = Callable[[Peer], Awaitable[None]]


class FaultyServer:
    """Runs a script for each connection. `connections`: how many there were; `failures`: what scripts raised."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        self.port = 0
        self.connections = 0
        self.failures: list[BaseException] = []

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._script(Peer(self.connections, reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        except Exception as error:
            self.failures.append(error)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
            self._tasks.discard(task)

    async def end(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def serve(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[FaultyServer]:
    """Run `script` for each connection, then close it. What the script raises fails the test."""
    server = FaultyServer(script)
    listener = await asyncio.start_server(server.run, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    server.url = f"{'https' if tls else 'http'}://localhost:{server.port}"
    try:
        yield server
    finally:
        listener.close()
        await server.end()
    assert not server.failures, server.failures


def always(*answers: bytes) -> Script:
    """Each request is answered with the next of these, the last one again and again."""
    left = list(answers)

    async def script(peer: Peer) -> None:
        while True:
            await peer.read()
            await peer.send(left.pop(0) if len(left) > 1 else left[0])

    return script

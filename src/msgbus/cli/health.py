"""GET /live and /ready over HTTP/1.1, and the client that asks a worker. As little of HTTP as probes need."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus

from msgbus.brokers.hiding import scrub
from msgbus.consuming.health import Health
from msgbus.errors import ConfigError

log = logging.getLogger("msgbus.health")

Report = Callable[[], Awaitable[Health]]

_PATIENCE = 5.0  # seconds that a client may take to ask
_LONGEST = 8192  # bytes of a request


@dataclass(frozen=True, slots=True)
class Place:
    """Where health is served: a host and a port, or the path of a Unix socket."""

    host: str = "127.0.0.1"
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Place:
        """PORT, HOST:PORT, [IPV6]:PORT or unix:PATH. Raises ConfigError."""
        if text.startswith("unix:"):
            return cls(path=text.removeprefix("unix:"))
        host, _, port = text.rpartition(":")
        if not port.isdecimal() or int(port) > 65535:
            raise ConfigError(f"--health {text}: write PORT or HOST:PORT, with a port of 0 to 65535")
        return cls(host.strip("[]") or "127.0.0.1", int(port))

    async def listen(self, answer: Callable[..., None]) -> asyncio.Server:
        """Raises ConfigError where the place is taken."""
        try:
            if self.path:
                return await asyncio.start_unix_server(answer, self.path, limit=_LONGEST)
            return await asyncio.start_server(answer, self.host, self.port, limit=_LONGEST)
        except OSError as error:
            raise ConfigError(
                f"--health: can't listen on {self.path or f'{self.host}:{self.port}'}: {error}"
            ) from error


@asynccontextmanager
async def serving(place: Place | None, report: Report) -> AsyncIterator[None]:
    """Answer probes for the length of the block; without a place, do nothing."""
    if place is None:
        yield
        return

    open_now: set[asyncio.Task[None]] = set()

    def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(_answer(reader, writer, report))  # kept: the server does not end them
        open_now.add(task)
        task.add_done_callback(open_now.discard)

    server = await place.listen(answer)
    port = 0 if place.path else server.sockets[0].getsockname()[1]
    log.log(logging.DEBUG if place.path else logging.INFO, "serving /live and /ready", extra={"port": port})
    try:
        yield
    finally:
        server.close()
        for task in open_now:
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, report: Report) -> None:
    try:
        async with asyncio.timeout(_PATIENCE):
            request = await reader.readuntil(b"\r\n\r\n")
            writer.write(await respond(request, report))
            await writer.drain()
    except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
        pass  # a probe that gave up, or no probe at all
    finally:
        await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def respond(request: bytes, report: Report) -> bytes:
    """The whole answer to the head of a request."""
    method, _, rest = request.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if path not in (b"/live", b"/ready"):
        return _response(HTTPStatus.NOT_FOUND, {"paths": ["/live", "/ready"]}, method)
    if method not in (b"GET", b"HEAD"):
        return _response(HTTPStatus.METHOD_NOT_ALLOWED, {"methods": ["GET", "HEAD"]}, method)
    health = await report()
    good = health.live if path == b"/live" else health.ready
    body = {"live": health.live, "ready": health.ready, "problems": [scrub(problem) for problem in health.problems]}
    return _response(HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE, body, method)


def _response(status: HTTPStatus, body: object, method: bytes) -> bytes:
    content = json.dumps(body).encode() + b"\n"
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if method == b"HEAD" else content)


async def ask(path: str, patience: float = 2.0) -> Health:
    """The health of the worker that serves it on that Unix socket.

    A worker that does not listen yet is starting; one that does not answer in time hangs, and is not live.
    """
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(b"GET /ready HTTP/1.1\r\n\r\n")
                content = (await reader.read()).partition(b"\r\n\r\n")[2]
            finally:
                await _close(writer)
        answer = json.loads(content)
        return Health(answer["live"], answer["ready"], tuple(answer["problems"]))
    except TimeoutError:
        return Health(False, False, (f"no answer within {patience:g} s",))
    except (OSError, ValueError, KeyError):
        return Health(True, False, ("not running yet",))

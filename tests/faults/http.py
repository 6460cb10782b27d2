"""An HTTP proxy that can rewrite what passes: real bytes on the wire, wrong when a test says so."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit


@dataclass(slots=True)
class Call:
    """A request on its way. `operation`: as AWS names it, "" for a form (SNS) whose Action is in `body`.

    `forward(body)` has the server carry it out, with another body if one is given: the status and the answer's body.
    """

    operation: str
    head: bytes
    body: bytes
    forward: Callable[..., Awaitable[tuple[int, bytes]]]
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def params(self) -> dict[str, Any]:
        """Of the JSON protocols."""
        if "params" not in self.notes:
            self.notes["params"] = json.loads(self.body)
        return self.notes["params"]  # type: ignore[no-any-return]


_OURS = (b"content-length:", b"expect:")  # headers that the proxy writes, or answers, itself

Meet = Callable[[Call], Awaitable[bytes | None]]
"""What becomes of a call: the bytes to answer with, or None: the connection is closed."""


def answer(status: int, body: bytes, **headers: str) -> bytes:
    """A whole answer; `_` in a header's name stands for `-`."""
    lines = [f"HTTP/1.1 {status} Status", f"content-length: {len(body)}", "content-type: application/x-amz-json-1.0"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def passed(call: Call) -> bytes | None:
    """Nothing happens to it."""
    return answer(*await call.forward())


class FaultyHttp:
    """Listens on 127.0.0.1 and hands each call to `meet`, which may be changed at any time."""

    def __init__(self, target: str, meet: Meet = passed) -> None:
        self._target = urlsplit(target)
        self.meet = meet
        self.url = ""
        self.failures: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 22)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        assert not self.failures, self.failures

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        upstream = _Upstream(self._target.hostname or "", self._target.port or 80)
        try:
            while (call := await self._read(reader, writer, upstream)) is not None:
                said = await self.meet(call)
                if said is None:
                    break
                writer.write(said)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # either side is gone
        except Exception as error:  # a mistake of the test
            self.failures.append(error)
        finally:
            upstream.close()
            writer.transport.abort()
            self._tasks.discard(task)

    async def _read(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: _Upstream
    ) -> Call | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        headers = _headers(head)
        if headers.get("expect") == "100-continue":  # S3's client waits for it before it sends a body
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        operation = headers.get("x-amz-target", "").rpartition(".")[2]

        async def forward(changed: bytes | None = None) -> tuple[int, bytes]:
            return await upstream.ask(head, body if changed is None else changed)

        return Call(operation, head, body, forward)


class _Upstream:
    """The server's side of one connection, opened when it is needed."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, head: bytes, body: bytes) -> tuple[int, bytes]:
        """As a whole, even when the client goes away meanwhile: the server would carry it out too."""
        asking = asyncio.ensure_future(self._ask(head, body))
        asking.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, whoever is gone by then
        return await asyncio.shield(asking)

    async def _ask(self, head: bytes, body: bytes) -> tuple[int, bytes]:
        if self._streams is None or self._streams[0].at_eof():
            self.close()
            self._streams = await asyncio.open_connection(self._host, self._port, limit=1 << 22)
        reader, writer = self._streams
        lines = [line for line in head.split(b"\r\n") if line and not line.lower().startswith(_OURS)]
        writer.write(b"\r\n".join([*lines, b"content-length: %d" % len(body), b"", b""]) + body)
        headers = _headers(said := await reader.readuntil(b"\r\n\r\n"))
        return int(said.split(b" ", 2)[1]), await reader.readexactly(int(headers["content-length"]))

    def close(self) -> None:
        if self._streams is not None:
            with contextlib.suppress(OSError):
                self._streams[1].close()
            self._streams = None


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}

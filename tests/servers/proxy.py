"""A small TCP proxy for fault tests: it stands before a server and cuts, freezes, delays or refuses."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from typing import Self
from urllib.parse import urlsplit

from tests.servers.net import LOOPBACK, free_ports

_CHUNK = 65_536
_QUEUED = 64  # chunks under way in one direction while they are delayed
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close sends RST

_Queue = asyncio.Queue[tuple[float, bytes]]


class Proxy:
    """Listens on 127.0.0.1 and forwards to the host and port of `target` (a URL), from entry to exit.

    `url` is the target's URL through the proxy. `delay` is in seconds, added to each direction; it may be
    changed at any time. All is done in the event loop that entered it.
    """

    def __init__(self, target: str, *, delay: float = 0.0) -> None:
        self._target = urlsplit(target)
        if self._target.hostname is None or self._target.port is None:
            raise ValueError(f"the target needs a host and a port: {target!r}")
        self.delay = delay
        self.port = free_ports(["proxy"])["proxy"]
        self.accepted = 0
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    @property
    def url(self) -> str:
        """The target's URL with the host and port of the proxy."""
        account, at, _ = self._target.netloc.rpartition("@")
        return self._target._replace(netloc=f"{account}{at}{LOOPBACK}:{self.port}").geturl()

    @property
    def connections(self) -> int:
        """How many clients are connected now."""
        return len(self._tasks)

    async def accept(self) -> None:
        """Listens (again, on the same port): the start, and the end of `refuse`."""
        if self._listener is None:
            self._listener = await asyncio.start_server(self._connected, LOOPBACK, self.port, limit=_CHUNK)

    def refuse(self) -> None:
        """New connections are refused; the open ones go on."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def cut(self, *, reset: bool = True) -> None:
        """Ends every open connection on both sides: with RST, or with FIN (`reset=False`)."""
        for writer in tuple(self._writers):
            sock = writer.get_extra_info("socket")
            if reset and sock is not None:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
        for task in tuple(self._tasks):
            task.cancel()

    @contextlib.asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """Until the exit nobody gets through: open connections are cut, new ones refused."""
        self.refuse()
        self.cut()
        try:
            yield
        finally:
            await self.accept()

    def freeze(self) -> None:
        """Nothing is forwarded any more, nothing is closed: a network that swallows packets."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Forwards again, from where it stopped; nothing was lost."""
        self._flowing.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.accepted += 1
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._serve(reader, writer)
        except* (OSError, asyncio.CancelledError):
            pass  # a server that is down, a reset, a cut: the client sees its connection end
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flowing.wait()
        host, port = self._target.hostname, self._target.port
        far_reader, far_writer = await asyncio.open_connection(host, port, limit=_CHUNK)
        self._writers.add(far_writer)
        try:
            async with asyncio.TaskGroup() as group:
                for source, sink in ((reader, far_writer), (far_reader, writer)):
                    queue = _Queue(_QUEUED)  # between read and write: a delay makes chunks late, not fewer
                    group.create_task(self._read(source, queue))
                    group.create_task(self._write(queue, sink))
        finally:
            self._writers.discard(far_writer)
            far_writer.transport.abort()

    async def _read(self, source: asyncio.StreamReader, queue: _Queue) -> None:
        chunk = b"-"
        while chunk:
            await self._flowing.wait()
            chunk = await source.read(_CHUNK)
            await queue.put((asyncio.get_running_loop().time(), chunk))

    async def _write(self, queue: _Queue, sink: asyncio.StreamWriter) -> None:
        while True:
            read_at, chunk = await queue.get()
            wait = read_at + self.delay - asyncio.get_running_loop().time()
            if wait > 0:
                await asyncio.sleep(wait)
            await self._flowing.wait()
            if not chunk:
                if sink.can_write_eof():
                    sink.write_eof()  # half-closed, as the other side is
                return
            sink.write(chunk)
            await sink.drain()

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.refuse()
        tasks = tuple(self._tasks)
        self.cut(reset=False)
        await asyncio.gather(*tasks, return_exceptions=True)

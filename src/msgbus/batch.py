"""Send now if a slot is free, else gather: no linger timer, no delay when idle, full batches under load."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence

from msgbus.broker import Capabilities
from msgbus.errors import BusError
from msgbus.lanes import Lanes
from msgbus.message import Outgoing, Receipt

Result = Receipt | BusError
Send = Callable[[Sequence[Outgoing]], Awaitable[Sequence[Result]]]

CAPACITY = 10_000  # entries that may wait for a slot; further callers wait for room


class _Chunk:
    """Entries of one call that go out together, and the future that its caller awaits."""

    __slots__ = ("bytes", "entries", "key", "results")

    def __init__(
        self, entries: Sequence[Outgoing], size: int, key: str | None, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.entries = entries
        self.bytes = size
        self.key = key
        self.results: asyncio.Future[Sequence[Result]] = loop.create_future()


class Batcher:
    """Gathers what many tasks send to one broker.

    A call that finds a free slot sends in its own task; otherwise its entries wait and the next free slot takes
    all that fit. Where `send_order` is "gated", at most one unconfirmed entry per ordering key is out. A cancelled
    call's entries are dropped if they still wait; if they are out, their outcome is unknown.
    """

    def __init__(self, send: Send, capabilities: Capabilities, capacity: int = CAPACITY) -> None:
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._limit = capabilities.send_batch
        self._limit_bytes = capabilities.send_bytes
        self._free = capabilities.send_slots
        self._gate: Lanes[_Chunk] | None = Lanes() if capabilities.send_order == "gated" else None
        self._capacity = capacity
        self._waiting: deque[_Chunk] = deque()
        self._queued = 0
        self._room: deque[asyncio.Future[None]] = deque()
        self._drains: set[asyncio.Task[None]] = set()

    def send(self, batch: Sequence[Outgoing]) -> Awaitable[Sequence[Result]]:
        """Send; one result per entry, in order. Await it at once."""
        if self._gate is None and (self._limit_bytes is None or len(batch) == 1) and len(batch) <= self._limit:
            if self._free and not self._queued:
                return self._send_now(batch)
            if self._queued < self._capacity:
                return self._enqueue(_Chunk(batch, self._size(batch), None, self._loop))
        return self._send_parts(batch)

    async def _send_now(self, batch: Sequence[Outgoing]) -> Sequence[Result]:
        self._free -= 1
        try:
            return await self._send(batch)
        finally:
            self._free += 1
            if self._waiting:
                self._drain()

    async def close(self, timeout: float) -> None:
        """Wait until everything that was taken is out; what is not after `timeout` seconds is given up."""
        if self._drains:
            await asyncio.wait(self._drains, timeout=timeout)
        for task in self._drains:
            task.cancel()
        if self._drains:
            await asyncio.wait(self._drains)

    def _size(self, batch: Sequence[Outgoing]) -> int:
        return 0 if self._limit_bytes is None else sum(map(wire_size, batch))

    async def _send_parts(self, batch: Sequence[Outgoing]) -> Sequence[Result]:
        """In parts that keep to the limits; the caller waits for room between them."""
        results: list[Result] = []
        parts: deque[asyncio.Future[Sequence[Result]]] = deque()
        try:
            for chunk in self._split(batch):
                while self._queued >= self._capacity:
                    await self._wait_for_room()
                parts.append(self._enqueue(chunk))
            while parts:
                results.extend(await parts[0])
                parts.popleft()
        finally:
            for part in parts:
                part.cancel()
        return results

    def _split(self, batch: Sequence[Outgoing]) -> Iterator[_Chunk]:
        if self._gate is not None:  # an entry per chunk, since each waits for its own key
            for entry in batch:
                yield _Chunk((entry,), wire_size(entry), entry.key, self._loop)
        else:
            yield from (
                _Chunk(part, size, None, self._loop) for part, size in split(batch, self._limit, self._limit_bytes)
            )

    def _enqueue(self, chunk: _Chunk) -> asyncio.Future[Sequence[Result]]:
        """Have it sent when a slot is free. Cancelling the future takes it back, if it still waits."""
        self._queued += len(chunk.entries)
        if self._gate is None or chunk.key is None or self._gate.enter(chunk.key, chunk):
            self._waiting.append(chunk)
            if self._free:
                self._drain()
        return chunk.results

    async def _wait_for_room(self) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._room.append(waiter)
        await waiter

    def _slot_freed(self) -> None:
        self._free += 1
        if self._waiting:
            self._drain()

    def _drain(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            task = self._loop.create_task(self._run())
            self._drains.add(task)
            task.add_done_callback(self._drains.discard)

    async def _run(self) -> None:
        try:
            while chunks := self._take():
                await self._send_chunks(chunks)
        finally:
            self._slot_freed()

    def _take(self) -> list[_Chunk]:
        """As many waiting chunks as fit into one batch, without those whose callers went away."""
        if self._queued <= self._limit and self._limit_bytes is None and self._gate is None:
            taken = list(self._waiting)
            self._waiting.clear()
        else:
            taken = self._take_some()
        gone = [chunk for chunk in taken if chunk.results.done()]
        if not gone:
            return taken
        self._left(gone)
        return [chunk for chunk in taken if not chunk.results.done()] or self._take()

    def _take_some(self) -> list[_Chunk]:
        taken: list[_Chunk] = []
        count = size = 0
        while self._waiting:
            chunk = self._waiting[0]
            count += len(chunk.entries)
            size += chunk.bytes
            if taken and (count > self._limit or (self._limit_bytes is not None and size > self._limit_bytes)):
                break
            taken.append(self._waiting.popleft())
        return taken

    async def _send_chunks(self, chunks: list[_Chunk]) -> None:
        batch = chunks[0].entries if len(chunks) == 1 else [entry for chunk in chunks for entry in chunk.entries]
        try:
            results = await self._send(batch)
        except BusError as error:
            results = [error] * len(batch)
        except BaseException as error:
            _fail(chunks, error)
            raise
        finally:
            self._left(chunks)
        start = 0
        for chunk in chunks:
            end = start + len(chunk.entries)
            if not chunk.results.done():
                chunk.results.set_result(results[start:end])
            start = end

    def _left(self, chunks: Sequence[_Chunk]) -> None:
        """They are no longer here: the next of their keys may go, and there is room for others."""
        gate = self._gate
        for chunk in chunks:
            self._queued -= len(chunk.entries)
            if gate is not None and chunk.key is not None and (following := gate.leave(chunk.key)) is not None:
                self._waiting.append(following)
        while self._room and self._queued < self._capacity:  # all of them: each looks again, one may be cancelled
            waiter = self._room.popleft()
            if not waiter.done():
                waiter.set_result(None)


def _fail(chunks: Sequence[_Chunk], error: BaseException) -> None:
    for chunk in chunks:
        if chunk.results.done():
            continue
        if isinstance(error, Exception):
            chunk.results.set_exception(error)
        else:
            chunk.results.cancel()


def wire_size(entry: Outgoing) -> int:
    """Bytes of an entry as brokers count them: body, header names and values in UTF-8 (near enough for ASCII)."""
    size = len(entry.body) + (len(entry.key) if entry.key else 0)
    for name, value in entry.headers.items():
        size += len(name) + (len(value) if value.isascii() else len(value.encode()))
    return size


def split(batch: Sequence[Outgoing], limit: int, limit_bytes: int | None) -> Iterator[tuple[Sequence[Outgoing], int]]:
    """Cut a batch into parts of at most `limit` entries and `limit_bytes` bytes, with the bytes of each part.

    An entry that is larger than `limit_bytes` by itself is a part of its own: the broker says what is wrong with it.
    """
    part: list[Outgoing] = []
    size = 0
    for entry in batch:
        bytes_ = wire_size(entry) if limit_bytes is not None else 0
        if part and (len(part) >= limit or (limit_bytes is not None and size + bytes_ > limit_bytes)):
            yield part, size
            part, size = [], 0
        part.append(entry)
        size += bytes_
    if part:
        yield part, size

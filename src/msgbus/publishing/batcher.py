"""Send now if a slot is free, else gather: no linger timer, no delay when idle, full batches under load."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from itertools import repeat
from typing import Any

from msgbus.broker import Capabilities, Result
from msgbus.brokers.splitting import split
from msgbus.errors import BusError, shown
from msgbus.lanes import Lanes
from msgbus.message import Outgoing, Receipt
from msgbus.publishing.chunks import Chunk, fail, shares, wire_size

log = logging.getLogger("msgbus.send")

Send = Callable[[Sequence[Outgoing]], Awaitable[Sequence[Result]]]
Recover = Callable[[Sequence[BusError], int], Awaitable[None]]
"""`recover(errors, attempt)`: wait until it is worth trying again. Raises BusError where it never will be."""

CAPACITY = 10_000  # entries that may wait for a slot; further callers wait for room


class Batcher:
    """Gathers what many tasks send to one broker, and sends again what failed and nothing else.

    A call that finds a free slot sends in its own task; otherwise its entries wait and the next free slot takes
    all that fit. Where `send_order` is "gated", at most one unconfirmed entry per lane is out. A cancelled call's
    entries are dropped if they wait, for a slot or for another attempt; if they are out, their outcome is
    unknown.
    """

    def __init__(
        self, send: Send, capabilities: Capabilities, capacity: int = CAPACITY, recover: Recover | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._recover = recover
        self._limit = capabilities.send_batch
        self._limit_bytes = capabilities.send_bytes
        self._free = self._slots = capabilities.send_slots
        self._gate: Lanes[Chunk] | None = Lanes() if capabilities.send_order == "gated" else None
        self._capacity = capacity
        self._waiting: deque[Chunk] = deque()
        self._queued = 0
        self._room: deque[asyncio.Future[None]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._quiet: asyncio.Future[None] | None = None
        self._closing = False

    def send(self, batch: Sequence[Outgoing]) -> Awaitable[Sequence[Result]]:
        """Send; one result per entry, in order. Await it at once."""
        if len(batch) <= self._limit and (self._gate is None or not _is_ordered(batch)):
            limit = self._limit_bytes
            size = 0 if limit is None else self._size(batch)
            if limit is None or size <= limit or len(batch) == 1:
                if self._free and not self._queued:
                    return self._send_now(batch)
                if self._queued < self._capacity:
                    return self._enqueue(Chunk(batch, size, None, self._loop))
        return self._send_parts(batch)

    @property
    def load(self) -> tuple[int, int]:
        """Calls that are out, and entries that wait for theirs or for another attempt."""
        return self._slots - self._free, self._queued

    async def close(self, timeout: float) -> None:
        """Wait until everything that was taken is out; what is not after `timeout` seconds fails."""
        if self._queued or self._free < self._slots:
            self._quiet = self._loop.create_future()
            await asyncio.wait([self._quiet], timeout=timeout)
        self._closing = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        fail(self._waiting, BusError("the bus was closed before this was sent"))

    async def _send_now(self, batch: Sequence[Outgoing]) -> Sequence[Result]:
        self._free -= 1
        results: Sequence[Result]
        try:
            results = await self._send(batch)
        except Exception as error:
            results = [_result(error)] * len(batch)
        finally:
            self._free += 1
            if self._waiting or self._quiet is not None:
                self._slot_freed()
        if not _may_fail(results):
            return results
        chunk = Chunk(batch, self._size(batch), None, self._loop)
        self._queued += chunk.count
        self._conclude(chunk, results)
        return await chunk.results

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

    def _split(self, batch: Sequence[Outgoing]) -> Iterator[Chunk]:
        if self._gate is not None and _is_ordered(batch):  # an entry per chunk, since each waits for its own lane
            for entry in batch:
                yield Chunk((entry,), self._size((entry,)), entry.lane, self._loop)
        else:
            sizes = repeat(0, len(batch)) if self._limit_bytes is None else map(wire_size, batch)
            for part, size in split(sizes, self._limit, self._limit_bytes):
                yield Chunk(batch[part], size, None, self._loop)

    def _enqueue(self, chunk: Chunk) -> asyncio.Future[Sequence[Result]]:
        """Have it sent when a slot is free. Cancelling the future takes it back, if it still waits."""
        if self._closing:
            fail([chunk], BusError("the bus is closed"))
            return chunk.results
        self._queued += len(chunk.entries)
        if self._gate is None or chunk.lane is None or self._gate.enter(chunk.lane, chunk):
            self._waiting.append(chunk)
            if self._free:
                self._drain()
        return chunk.results

    async def _wait_for_room(self) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._room.append(waiter)
        await waiter

    def _drain(self) -> None:
        while self._free and self._waiting and not self._closing:
            self._free -= 1
            self._spawn(self._run())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        """Holds one slot for as long as something waits."""
        try:
            while chunks := self._take():
                await self._send_chunks(chunks)
        finally:
            self._free += 1
            self._slot_freed()

    def _slot_freed(self) -> None:
        if self._waiting:
            self._drain()
        elif self._quiet is not None:
            self._notice_quiet(self._quiet)

    def _notice_quiet(self, quiet: asyncio.Future[None]) -> None:
        if not self._queued and self._free == self._slots and not quiet.done():
            quiet.set_result(None)

    def _take(self) -> list[Chunk]:
        """As many waiting chunks as fit into one batch, without those whose callers went away."""
        if self._queued <= self._limit and self._limit_bytes is None and self._gate is None:
            taken = list(self._waiting)
            self._waiting.clear()
        else:
            taken = self._take_some()
        gone = [chunk for chunk in taken if chunk.results.done()]
        if not gone:
            return taken
        self._forget(gone)
        return [chunk for chunk in taken if not chunk.results.done()] or self._take()

    def _take_some(self) -> list[Chunk]:
        taken: list[Chunk] = []
        count = size = 0
        while self._waiting:
            chunk = self._waiting[0]
            count += len(chunk.entries)
            size += chunk.bytes
            if taken and (count > self._limit or (self._limit_bytes is not None and size > self._limit_bytes)):
                break
            taken.append(self._waiting.popleft())
        return taken

    async def _send_chunks(self, chunks: list[Chunk]) -> None:
        batch = chunks[0].entries if len(chunks) == 1 else [entry for chunk in chunks for entry in chunk.entries]
        try:
            results = await self._send(batch)
        except Exception as error:
            results = [_result(error)] * len(batch)
        except BaseException:
            fail(chunks, BusError("the bus was closed in mid-send"))
            self._forget(chunks)
            raise
        if _may_fail(results):
            for chunk, own in shares(chunks, results):
                self._conclude(chunk, own)
            return
        for chunk, own in shares(chunks, results):
            if chunk.outcome is not None:  # sent again: its other entries have results already
                chunk.merge(own)
            if not chunk.results.done():
                chunk.results.set_result(chunk.outcome or own)
        self._forget(chunks)

    def _conclude(self, chunk: Chunk, results: Sequence[Result]) -> None:
        """Hand out the results, or have what failed tried again: nobody else in the batch waits for it."""
        errors = chunk.merge(results)
        if errors and self._recover is not None and not chunk.results.done():
            self._spawn(self._again(chunk, errors, self._recover))
            return
        if not chunk.results.done():
            chunk.results.set_result(chunk.outcome or results)
        self._forget([chunk])

    async def _again(self, chunk: Chunk, errors: Sequence[BusError], recover: Recover) -> None:
        """After a pause, to the front of the queue; its key stays behind the gate meanwhile."""
        chunk.attempt += 1
        try:
            await recover(errors, chunk.attempt)
        except BusError as error:
            self._conclude_all(chunk, error)
            return
        except asyncio.CancelledError:
            self._conclude_all(chunk, BusError("the bus was closed before this was sent again"))
            raise
        self._waiting.appendleft(chunk)
        self._drain()

    def _conclude_all(self, chunk: Chunk, error: BusError) -> None:
        ended = chunk.outcome or []
        for place in chunk.places:
            ended[place] = error
        if not chunk.results.done():
            chunk.results.set_result(ended)
        self._forget([chunk])

    def _forget(self, chunks: Sequence[Chunk]) -> None:
        """They are no longer here: the next of their keys may go, and there is room for others."""
        gate = self._gate
        for chunk in chunks:
            self._queued -= chunk.count
            if gate is not None and chunk.lane is not None and (following := gate.leave(chunk.lane)) is not None:
                self._waiting.append(following)
        if self._quiet is not None:
            self._notice_quiet(self._quiet)
        while self._room and self._queued < self._capacity:  # all of them: each looks again, one may be cancelled
            waiter = self._room.popleft()
            if not waiter.done():
                waiter.set_result(None)


def _result(error: Exception) -> BusError:
    """The result of each entry. What no broker should raise: what became of them is unknown."""
    if isinstance(error, BusError):
        return error
    log.error("sending failed in a way that is not foreseen", exc_info=error)
    odd = BusError(f"sending failed, the message may have arrived: {shown(error)}")
    odd.__cause__ = error
    return odd


def _is_ordered(batch: Sequence[Outgoing]) -> bool:
    if len(batch) == 1:
        return batch[0].lane is not None
    return any([out.lane is not None for out in batch])  # noqa: C419 - a generator costs more


def _may_fail(results: Sequence[Result]) -> bool:
    if len(results) == 1:
        return results[0].__class__ is not Receipt
    return any([result.__class__ is not Receipt for result in results])  # noqa: C419 - a generator costs more

"""Between a client that pushes and a receiver that is asked: what came, in order, until it is taken."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

from msgbus.clock import Clock
from msgbus.errors import BusError

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Made inside a running event loop. One taker at a time; whoever fills it keeps to `room`.

    `take` removes items only when it returns, so a cancelled one leaves them to the next.
    """

    def __init__(self, clock: Clock, capacity: int) -> None:
        self.items: deque[T] = deque()
        self.capacity = capacity
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._error: BusError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._open = True

    def __len__(self) -> int:
        return len(self.items)

    @property
    def room(self) -> int:
        """How many more fit."""
        return max(0, self.capacity - len(self.items))

    def put(self, items: Iterable[T]) -> None:
        """Add items; never waits. More than `room` are kept all the same: dropping them would lose messages."""
        self.items.extend(items)
        self._wake()

    def fail(self, error: BusError) -> None:
        """Have `take` raise this, once, when everything that came before it was taken."""
        self._error = error
        self._wake()

    def close(self) -> None:
        """Nothing waits any more: `take` gives what is there, then []."""
        self._open = False
        self._wake()

    async def take(self, limit: int, wait: float) -> list[T]:
        """Up to `limit` items as soon as there is one; [] after `wait` seconds. Raises what `fail` was told."""
        if not self.items and self._error is None and self._open and wait > 0:
            await self._come(wait)
        if self.items:
            items = self.items
            return [items.popleft() for _ in range(min(limit, len(items)))]
        error, self._error = self._error, None
        if error is not None:
            raise error
        return []

    async def _come(self, wait: float) -> None:
        waiter = self._waiter = self._loop.create_future()
        timer = self._clock.call_later(wait, self._wake)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

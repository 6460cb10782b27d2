"""From push to pull: a client's callbacks fill it, `receive` empties it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from msgbus.clock import Alarms
from msgbus.errors import BusError

T = TypeVar("T")


class Inflow(Generic[T]):
    """What came and was not taken yet; the server's prefetch bounds it.

    Append to `items`, then `wake`. One `take` at a time; a cancelled one leaves everything for the next.
    """

    def __init__(self, alarms: Alarms) -> None:
        self.items: deque[T] = deque()
        self.error: BusError | None = None
        self._alarms = alarms
        self._stopped = False
        self._refusing = False
        self._waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Something changed."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def fail(self, error: BusError) -> None:
        """Its source is dead, and with it what was not taken; `take` raises from now on. The first error stays."""
        if self.error is None:
            self.error = error
            self.items.clear()
        self.wake()

    def stop(self, *, refuse: bool = False) -> None:
        """`take` does not wait any more. `refuse`: nor does it hand out what is here or still comes."""
        self._stopped = True
        self._refusing = refuse
        self.wake()

    async def take(self, limit: int, wait: float) -> list[T]:
        """Up to `limit` items as soon as there is one, [] after `wait` seconds or once stopped."""
        if not self.items and wait > 0 and self.error is None and not self._stopped:
            await self._sleep(wait)
        if self.error is not None:
            raise self.error
        items = self.items
        if self._refusing:
            items.clear()
        if len(items) <= limit:
            taken = list(items)
            items.clear()
            return taken
        return [items.popleft() for _ in range(limit)]

    async def _sleep(self, seconds: float) -> None:
        self._waiter = self._alarms.loop.create_future()
        alarm = self._alarms.call(seconds, self.wake)
        try:
            await self._waiter
        finally:
            alarm.cancel()
            self._waiter = None

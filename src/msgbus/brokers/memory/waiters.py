"""Those who wait for a queue, woken one after the other in the order in which they came."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from msgbus.clock import Alarms, Call


class Waiters:
    """`waiting` is empty where nobody waits. `passed_on`: whether there is anything left for the next one."""

    def __init__(self, alarms: Alarms, passed_on: Callable[[], bool]) -> None:
        self.waiting: deque[asyncio.Future[None]] = deque()
        self._alarms = alarms
        self._passed_on = passed_on
        self._alarm: Call | None = None

    async def wait(self, seconds: float) -> None:
        """Until woken, or `seconds` are over, or sooner: the alarm is one for all."""
        at = self._alarms.now() + seconds
        if self._alarm is None or at < self._alarm.at:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm = self._alarms.call(seconds, self._over)
        waiter: asyncio.Future[None] = self._alarms.loop.create_future()
        self.waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self.waiting:
                self.waiting.remove(waiter)
            elif self._passed_on():  # woken for what will not be taken: pass it on
                self.wake()
            raise

    def wake(self) -> None:
        """Have the first who waits look again."""
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def wake_all(self) -> None:
        """Have everybody look again."""
        while self.waiting:
            self.wake()

    def _over(self) -> None:
        self._alarm = None
        self.wake_all()

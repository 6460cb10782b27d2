"""One task that waits until something may have changed, at most for a time on the bus's clock."""

from __future__ import annotations

import asyncio

from msgbus.clock import Clock


class Wakeup:
    """`wake` ends the `wait` that is under way; where nobody waits it is forgotten, so look before you wait.

    Made inside a running event loop.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()  # kept: asking costs a system call each time before Python 3.12
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self, seconds: float) -> None:
        """Until woken, or `seconds` are over."""
        waiter = self._waiter = self._loop.create_future()
        timer = self._clock.call_later(seconds, self.wake)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def wake(self) -> None:
        """Something changed."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

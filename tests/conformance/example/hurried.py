"""An event loop that never waits: where nothing is ready, its time jumps to the next timer.

For brokers without a server: sockets of others are not hurried by it.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable

from msgbus.clock import TimerHandle

_EPOCH = 1_767_225_600.0


class _Jumping(selectors.DefaultSelector):
    """Asked to wait, it says how long, and does not."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout is not None:
            self.waited += max(timeout, 0.0)
        return ready


class HurriedLoop(asyncio.SelectorEventLoop):
    """Its timers ring in order, at once; `time` says when that would have been."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.waited


class LoopClock:
    """The time of the running loop."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def time(self) -> float:
        return _EPOCH + self.now()

    def call_later(self, delay: float, callback: Callable[[], object]) -> TimerHandle:
        return asyncio.get_running_loop().call_later(delay, callback)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

"""Time that stands still until a test turns it."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
from collections.abc import Callable, Collection

_TURNS = 20  # of the event loop after each instant: longer than any chain of wake-ups inside the bus
_EPOCH = 1_767_225_600.0  # 2026-01-01T00:00:00Z, so that ids and dates are the same in every run


class VirtualTimer:
    """One call to come; what `VirtualClock.call_later` gives back."""

    __slots__ = ("_callback", "at", "cancelled", "context")

    def __init__(self, at: float, callback: Callable[[], object]) -> None:
        self.at = at
        self.cancelled = False
        self.context = contextvars.copy_context()
        self._callback = callback

    def cancel(self) -> None:
        """Forget it, even in the instant in which it is due."""
        self.cancelled = True

    def ring(self) -> None:
        """Make the call, unless it was cancelled."""
        if not self.cancelled:
            self._callback()


class VirtualClock:
    """A `Clock` for tests: no real waiting, the same order in every run.

    `now()` begins at 0.0 and `time()` at `epoch`. Only `advance`, `step` and `jump` move it. What is due is called by
    the event loop, in order of time and then of registration, as the loop does with its own timers. Between two
    instants the loop turns `turns` times, so that what one instant starts has come to rest before the next.
    """

    def __init__(self, epoch: float = _EPOCH, *, turns: int = _TURNS) -> None:
        self.version = 0  # changes with every timer that is set or rings: a test sees by it that something happens
        self._epoch = epoch
        self._turns = turns
        self._now = 0.0
        self._count = itertools.count()
        self._timers: list[tuple[float, int, VirtualTimer]] = []
        self._sleeping: dict[VirtualTimer, None] = {}

    def now(self) -> float:
        """Seconds since the clock was made."""
        return self._now

    def time(self) -> float:
        """Unix time."""
        return self._epoch + self._now

    def call_later(self, delay: float, callback: Callable[[], object]) -> VirtualTimer:
        """Have `callback` called when the clock has been turned by `delay` seconds."""
        timer = VirtualTimer(self._now + max(0.0, delay), callback)
        heapq.heappush(self._timers, (timer.at, next(self._count), timer))
        self.version += 1
        return timer

    async def sleep(self, seconds: float) -> None:
        """Until the clock has been turned by `seconds`."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        over = asyncio.get_running_loop().create_future()
        timer = self.call_later(seconds, lambda: None if over.done() else over.set_result(None))
        self._sleeping[timer] = None
        try:
            await over
        finally:
            timer.cancel()
            del self._sleeping[timer]

    @property
    def sleepers(self) -> Collection[contextvars.Context]:
        """The contexts of the tasks that are in `sleep`: who waits for this clock."""
        return [timer.context for timer in self._sleeping]

    @property
    def next_due(self) -> float | None:
        """When the next timer rings; None where there is none."""
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    async def advance(self, seconds: float) -> None:
        """Turn the clock by `seconds`: every timer due on the way rings at its own time."""
        target = self._now + max(0.0, seconds)
        await self._turn()
        while (due := self.next_due) is not None and due <= target:
            self.turn_to(due)
            await self._turn()
        self._now = max(self._now, target)

    async def step(self) -> bool:
        """Turn the clock to the next timer and ring what is due then; False where there is none."""
        due = self.next_due
        if due is not None:
            self.turn_to(due)
        await self._turn()
        return due is not None

    async def jump(self, seconds: float) -> None:
        """Turn the clock in one go, as a process sees it that was frozen: what was due rings late, and once."""
        self.turn_to(self._now + max(0.0, seconds))
        await self._turn()

    def turn_to(self, at: float) -> None:
        """Turn the clock to `at`, and leave what is due by then to the running loop; for loops that turn it themselves.

        Through the loop, which reports a callback that raises as it does for its own timers.
        """
        self._now = max(self._now, at)
        self.version += 1
        loop = asyncio.get_running_loop()
        while (due := self.next_due) is not None and due <= self._now:
            timer = heapq.heappop(self._timers)[2]
            loop.call_soon(timer.ring, context=timer.context)

    async def _turn(self) -> None:
        for _ in range(self._turns):
            await asyncio.sleep(0)

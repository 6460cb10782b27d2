"""One seam for time. Leases, delays, deadlines and breakers ask a `Clock`, so that tests can turn its hands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

_CANCELLATIONS = 5


class TimerHandle(Protocol):
    """What `Clock.call_later` gives back."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Time as the bus sees it. `now` is monotonic, `time` is Unix time; both in seconds."""

    def now(self) -> float: ...
    def time(self) -> float: ...
    def call_later(self, delay: float, callback: Callable[[], object]) -> TimerHandle: ...
    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clock and the running event loop's timers."""

    now = staticmethod(time.monotonic)
    time = staticmethod(time.time)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_later(self, delay: float, callback: Callable[[], object]) -> TimerHandle:
        return asyncio.get_running_loop().call_later(delay, callback)


async def cancelled_within(task: asyncio.Task[Any], seconds: float) -> bool:
    """Cancel a task until it has ended; False where it has not within `seconds` of the machine's time.

    Once is not enough: a client may swallow a cancellation, or catch it and go on. What it raised stays in the task.
    """
    for _ in range(_CANCELLATIONS):
        task.cancel()
        await asyncio.wait([task], timeout=seconds / _CANCELLATIONS)
        if task.done():
            return True
    return False


async def ended_within(work: Coroutine[Any, Any, object], seconds: float) -> bool:
    """Await `work` for `seconds` of the machine's time, then cancel it; whether it ended by itself.

    Raises what it raises. What swallows its cancellation is left behind a second later.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task], timeout=seconds)
    finally:
        in_time = task.done()
        if not in_time:
            await cancelled_within(task, 1.0)
    if in_time:
        task.result()
    return in_time


class Alarm(Protocol):
    """Something that is due at a time on the clock's `now`, and what happens then."""

    at: float

    def ring(self) -> object: ...


class Call:
    """An Alarm that calls a function."""

    __slots__ = ("_alarms", "_function", "at")

    def __init__(self, alarms: Alarms, at: float, function: Callable[[], object]) -> None:
        self._alarms = alarms
        self._function = function
        self.at = at

    def ring(self) -> object:
        return self._function()

    def cancel(self) -> None:
        """Forget it; harmless when it rang already."""
        self._alarms.pending.pop(self, None)


class Alarms:
    """Many deadlines behind one loop timer.

    A timer per message costs more than the message (docs/decisions/0002-hot-path.md). Nearly every deadline is
    cancelled before it is due, so setting and cancelling one is a dict operation, and the one loop timer looks for
    due alarms only when the earliest deadline it knows has come. An alarm rings up to `grain` seconds late,
    never early. Made inside a running event loop.
    """

    def __init__(self, clock: Clock, grain: float = 0.005) -> None:
        self.now = clock.now
        self.loop = asyncio.get_running_loop()  # kept: asking for it costs a system call each time before Python 3.12
        self.pending: dict[Alarm, None] = {}  # in the order in which they were set, in every run
        self._clock = clock
        self._grain = grain
        self._timer: TimerHandle | None = None
        self.soon = float("inf")  # an alarm before this needs the timer set anew

    def call(self, delay: float, function: Callable[[], object]) -> Call:
        """Have `function` called once, `delay` seconds from now; cancel it with the Call that comes back."""
        alarm = Call(self, self.now() + delay, function)
        self.add(alarm)
        return alarm

    def add(self, alarm: Alarm) -> None:
        """Have `alarm` rung at its time, unless it is discarded from `pending` before."""
        self.pending[alarm] = None
        if alarm.at < self.soon:
            self._arm(alarm.at)

    def close(self) -> None:
        """Forget everything."""
        self.pending.clear()
        self._disarm()

    def _arm(self, at: float) -> None:
        self._disarm()
        self.soon = at
        self._timer = self._clock.call_later(max(0.0, at - self.now()) + self._grain, self._ring)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self.soon = float("inf")

    def _ring(self) -> None:
        self._disarm()
        now = self.now()
        due = [alarm for alarm in self.pending if alarm.at <= now]
        for alarm in sorted(due, key=lambda alarm: alarm.at):
            if alarm in self.pending:  # an alarm that has just rung may have cancelled it
                del self.pending[alarm]
                self._ring_one(alarm)
        if self.pending:
            self._arm(min(alarm.at for alarm in self.pending))

    def _ring_one(self, alarm: Alarm) -> None:
        """What one of them raises is told to the loop, and keeps no other from ringing."""
        try:
            alarm.ring()
        except Exception as error:
            self.loop.call_exception_handler({"message": f"{alarm!r} failed", "exception": error})

"""An event loop without a world outside: a virtual clock is its time, and a seed decides who of those ready is first.

What holds on asyncio's own loop holds here: a callback never runs before one that was scheduled in an earlier turn of
the loop. Within one turn the order is the seed's, which on a real loop is that of sockets and of chance.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

from msgbus.testing import VirtualClock

T = TypeVar("T")


class Stuck(AssertionError):
    """Nothing is ready, no timer is set, and somebody still waits; or a run is endless."""


class Numbered(asyncio.Future[Any]):
    """A future whose hash is its number: sets of futures have one order in every process."""

    def __init__(self, *, loop: SeededLoop) -> None:
        super().__init__(loop=loop)
        self.number = loop.count()

    __eq__ = object.__eq__

    def __hash__(self) -> int:
        return self.number


class NumberedTask(asyncio.Task[Any]):
    """A task whose hash is its number. Its name counts in its own loop, not in the process."""

    def __init__(self, work: Coroutine[Any, Any, Any], *, loop: SeededLoop, **more: Any) -> None:
        self.number = loop.count()  # first: the constructor puts it into a set already
        super().__init__(work, loop=loop, name=more.pop("name", None) or f"task {self.number}", **more)

    __eq__ = object.__eq__

    def __hash__(self) -> int:
        return self.number


class SeededLoop(asyncio.BaseEventLoop):
    """`shuffle`: the share of the turns whose order the seed decides, 0.0 to 1.0; others are first come, first served.

    `on_step(steps)` is called before every callback, so that something can happen between any two of them. `errors`
    has what asyncio would have logged: a callback that raised, an error that nobody looked at.
    """

    def __init__(self, seed: int, clock: VirtualClock, *, shuffle: float = 1.0, most: int = 2_000_000) -> None:
        super().__init__()
        self.clock = clock
        self.steps = 0
        self.errors: list[str] = []
        self.on_step: Callable[[int], None] = lambda steps: None
        self._numbers = 0
        self._random = random.Random(seed)
        self._shuffle = shuffle
        self._most = most
        self._ready: deque[asyncio.Handle]
        self._scheduled: list[asyncio.TimerHandle]
        self.set_task_factory(_numbered)
        self.set_exception_handler(self._note)

    def count(self) -> int:
        """The next number: of a task, a future, whatever needs one."""
        self._numbers += 1
        return self._numbers

    def time(self) -> float:
        """Virtual seconds; the same as the clock's `now`."""
        return self.clock.now()

    def create_future(self) -> asyncio.Future[Any]:
        """A Numbered one."""
        return Numbered(loop=self)

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """There are no other threads."""
        return self.call_soon(callback, *args, context=context)

    def _run_once(self) -> None:
        """One turn: what is ready now, in the seed's order; without anything ready, on to the next timer."""
        if not self._ready:
            self._turn_the_clock()
        turn = list(self._ready)
        self._ready.clear()
        if len(turn) > 1 and self._random.random() < self._shuffle:
            self._random.shuffle(turn)
        for handle in turn:
            if not handle.cancelled():
                self.steps += 1
                self.on_step(self.steps)
                handle._run()
        if self.steps > self._most:
            raise Stuck(f"{self.steps} steps and no end, at {self.clock.now():g} s")

    def _turn_the_clock(self) -> None:
        while self._scheduled and self._scheduled[0].cancelled():
            heapq.heappop(self._scheduled)
        dues = [due for due in (self.clock.next_due, self._scheduled[0].when() if self._scheduled else None) if due]
        if not dues:
            raise Stuck(f"everybody waits, and for nothing that comes, at {self.clock.now():g} s")
        now = min(dues)
        while self._scheduled and self._scheduled[0].when() <= now:
            self._ready.append(heapq.heappop(self._scheduled))
        self.clock.turn_to(now)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Left where it is until its time has come."""

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.errors.append(context["message"] + (f": {error!r}" if error is not None else ""))


def _numbered(loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
    assert isinstance(loop, SeededLoop)
    return NumberedTask(work, loop=loop, **more)


def run(loop: SeededLoop, main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end and close the loop; what it left behind is cancelled, which the caller has looked at."""
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()

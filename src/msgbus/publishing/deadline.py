"""A deadline on the running task, without a loop timer of its own."""

from __future__ import annotations

import asyncio
from types import TracebackType

from msgbus.clock import Alarms
from msgbus.errors import Timeout


class Deadline:
    """`with Deadline(alarms, seconds, what):` raises Timeout where the block takes longer.

    As `asyncio.timeout`, it cancels the task at its await and turns that into an error; a cancellation from
    elsewhere goes through. It is its own Alarm: one object a publish.
    """

    __slots__ = ("_alarms", "_cancelling", "_rang", "_seconds", "_task", "_what", "at")

    def __init__(self, alarms: Alarms, seconds: float, what: object) -> None:
        self._alarms = alarms
        self._seconds = seconds
        self._what = what
        self._rang = False

    def __enter__(self) -> None:
        alarms = self._alarms
        self._task = task = asyncio.current_task(alarms.loop)
        self._cancelling = task.cancelling() if task is not None else 0
        self.at = alarms.now() + self._seconds
        alarms.add(self)

    def ring(self) -> None:
        """The time is over."""
        self._rang = True
        if self._task is not None:
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._rang:
            self._alarms.pending.pop(self, None)
        # Only if nobody else cancelled the task meanwhile is the cancellation ours to turn into an error.
        elif self._task is not None and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise Timeout(f"{self._what}: not done within {self._seconds:g} s") from error

"""A deadline on the running task, without a loop timer of its own."""

from __future__ import annotations

import asyncio
from types import TracebackType

from msgbus.clock import Alarm, Alarms
from msgbus.errors import Timeout


class Deadline:
    """`with Deadline(alarms, seconds, what):` raises Timeout where the block takes longer.

    As `asyncio.timeout`, it cancels the task at its await and turns that into an error; a cancellation from
    elsewhere goes through. `seconds=None`: no deadline.
    """

    __slots__ = ("_alarm", "_alarms", "_seconds", "_task", "_what")

    def __init__(self, alarms: Alarms, seconds: float | None, what: object) -> None:
        self._alarms = alarms
        self._seconds = seconds
        self._what = what
        self._task: asyncio.Task[object] | None = None
        self._alarm: Alarm | None = None

    def __enter__(self) -> None:
        if self._seconds is not None:
            self._task = asyncio.current_task()
            self._alarm = self._alarms.set(self._seconds, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self._task is not None:
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            return
        if self._task is None:
            return
        # It rang. Only if nobody else cancelled the task too is the cancellation ours to turn into an error.
        if self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise Timeout(f"{self._what}: not done within {self._seconds:g} s") from error

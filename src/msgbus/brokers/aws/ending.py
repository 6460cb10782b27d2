"""What is under way when a client is closed, and how it ends: as `asyncio.timeout` ends what takes too long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from types import TracebackType
from typing import Any

from msgbus.brokers.aws.failures import PoolClosedError

log = logging.getLogger("msgbus.aws")

LONGEST = 5.0
"""Seconds that closing may take; whoever does not answer by then is left alone."""


class Ending:
    """Knows who is inside of `with ending.part():`, and puts them out. `closed`: nobody comes in any more."""

    def __init__(self) -> None:
        self.closed = False
        self._inside: dict[asyncio.Task[Any], Part] = {}
        self._left: asyncio.Future[None] | None = None

    def part(self) -> Part:
        """A part of the work of the current task. Entering and being put out raise PoolClosedError."""
        return Part(self)

    def enter(self, task: asyncio.Task[Any], part: Part) -> Part | None:
        """The part that this one is inside of."""
        before = self._inside.get(task)
        self._inside[task] = part
        return before

    def leave(self, task: asyncio.Task[Any], before: Part | None) -> None:
        """Back to what it was inside of."""
        if before is not None:
            self._inside[task] = before
            return
        del self._inside[task]
        if not self._inside and self._left is not None and not self._left.done():
            self._left.set_result(None)

    async def close(self) -> None:
        """Put everybody out, wherever they are: connecting, in a handshake, at the source of their credentials."""
        self.closed = True
        if self._inside:
            self._left = self._left or asyncio.get_running_loop().create_future()
            for task, part in self._inside.items():
                part.put_out(task)
            await asyncio.wait([self._left], timeout=LONGEST)


class Part:
    """One entry of a task."""

    __slots__ = ("_before", "_ending", "_is_out", "_pending", "_task")

    def __init__(self, ending: Ending) -> None:
        self._ending = ending
        self._is_out = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if self._ending.closed or task is None:
            raise PoolClosedError("the client was closed")
        self._task = task
        self._pending = task.cancelling()
        self._before = self._ending.enter(task, self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._ending.leave(self._task, self._before)
        if self._is_out and self._task.uncancel() <= self._pending and kind is asyncio.CancelledError:
            raise PoolClosedError("the client was closed") from error

    def put_out(self, task: asyncio.Task[Any]) -> None:
        """Once."""
        if not self._is_out:
            self._is_out = True
            task.cancel()


async def bounded(work: Coroutine[Any, Any, None], what: str) -> None:
    """Closing that must not take for ever. Nothing is raised for what takes too long: it goes on alone."""
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait([task], timeout=LONGEST)
    if done:
        task.result()
    else:
        log.warning("closing %s takes more than %g s: it is left to itself", what, LONGEST)

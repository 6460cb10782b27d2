"""Notices a handler that blocks the event loop: everything stands meanwhile, leases and heartbeats too."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

log = logging.getLogger("msgbus.consume")

_PERIOD = 0.5  # seconds between two looks; a look costs the loop one callback
_LIMIT = 1.0  # seconds without an answer
_DOUBT = 0.2  # seconds more: after a stop of the whole process the loop answers at once
_HERE = str(Path(__file__).parent)
_OURS = str(Path(__file__).parents[1])
_BETWEEN = ("fast_depends", "asyncio", "contextlib")


class LoopWatch:
    """A thread that asks the loop for a sign of life while handlers run, from entry to exit.

    The message path pays nothing for it. Each function is told once a process; what blocks the loop outside of
    handlers is not ours to tell.
    """

    told: set[str] = set()  # noqa: RUF012 - of the process

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ident = threading.get_ident()
        self._over = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._run, name="msgbus loop watch", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def _run(self) -> None:
        try:
            while not self._over.wait(_PERIOD):
                self._look()
        except RuntimeError:  # the loop is closed
            return

    def _look(self) -> None:
        answered, began = threading.Event(), time.monotonic()
        self._loop.call_soon_threadsafe(answered.set)
        if answered.wait(_LIMIT) or answered.wait(_DOUBT):
            return
        name, place = culprit(sys._current_frames().get(self._ident))
        if not name or name in self.told:
            self._wait(answered)
            return
        self.told.add(name)
        log.warning("%s blocks the event loop, at %s: nothing else is handled, no lease is renewed", name, place)
        self._wait(answered)
        log.warning("%s blocked the event loop for %.1f s", name, time.monotonic() - began)

    def _wait(self, answered: threading.Event) -> None:
        while not answered.wait(1.0) and not self._loop.is_closed():
            pass


def culprit(frame: FrameType | None) -> tuple[str, str]:
    """The function that a worker called and that runs now, and the line that it is in; ("", "") where there is none."""
    stack = list(_stack(frame))
    workers = [place for place, each in enumerate(stack) if each.f_code.co_filename.startswith(_HERE)]
    if not workers:
        return "", ""
    inside = [each for each in stack[: workers[0]] if _is_theirs(each.f_code.co_filename)]
    if not inside:
        return "", ""
    code, innermost = inside[-1].f_code, stack[0]
    return code.co_qualname, f"{innermost.f_code.co_filename}:{innermost.f_lineno}"


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    """From the innermost outwards."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_theirs(file: str) -> bool:
    return not file.startswith(_OURS) and not any(f"/{package}/" in file for package in _BETWEEN)

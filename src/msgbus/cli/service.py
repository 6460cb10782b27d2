"""One process of `msgbus run`: consume until told to stop, first softly, then hard."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import threading
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from types import FrameType
from typing import Any

from msgbus.bus import Bus
from msgbus.cli.health import Place, serving
from msgbus.cli.watchdog import HURRY, MARGIN, Watchdog
from msgbus.consuming.health import Health

log = logging.getLogger("msgbus.run")

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run_loop(main: Coroutine[Any, Any, int]) -> int:
    """Run a program on uvloop where it is installed, else on asyncio's own loop."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ModuleNotFoundError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def set_aside() -> None:
    """Tell the garbage collector to leave alone what is there by now: it stays until the end.

    Modules and clients are ten thousands of objects, which every full collection would look through again: up to a
    third of the broker's share of a message (docs/decisions/0302-records.md).
    """
    gc.collect()
    gc.freeze()


class Service:
    """Runs the handlers of a bus. `stop()` once: softly; twice: running handlers are cancelled.

    `grace`: seconds that running handlers have after the first `stop`, the bus's own setting by default. What has not
    ended some seconds after that is given up with the process, whatever holds it.
    """

    def __init__(self, bus: Bus, grace: float | None = None) -> None:
        self._bus = bus
        self._grace = bus.settings.grace if grace is None else grace
        self._watchdog = Watchdog(self._in_hand)
        self._running = self._ended = False
        self._signals = self._stops = 0
        self._soft = asyncio.Event()
        self._hard = asyncio.Event()
        self._task: asyncio.Task[Any] | None = None

    async def run(self, health: Place | None = None, lifeline: int | None = None) -> int:
        """Until stopped. Raises what a consumer died of.

        `lifeline`: a file descriptor whose other end is the supervisor's; when that is gone, so are we.
        """
        self._task = asyncio.current_task()
        async with AsyncExitStack() as stack:
            self._listen(stack, lifeline)
            await stack.enter_async_context(serving(health, self.health))
            try:
                async with self._bus.consuming():
                    await self._consume()
            except asyncio.CancelledError:
                if not self._stops or self._task is None:
                    raise
                self._task.uncancel()  # stopped while it was starting
        log.info("stopped")
        return 0

    def stop(self) -> None:
        """The first call asks, the second one insists; a third signal is left to the system."""
        self._stops += 1
        if not self._running and self._task is not None:
            self._task.cancel()
        (self._soft if self._stops == 1 else self._hard).set()

    def _signalled(self, _number: int, _frame: FrameType | None) -> None:
        """Python's own handler: it runs in the midst of a handler that blocks the loop, too."""
        self._signals += 1
        self._watchdog.bite_in(self._grace + MARGIN if self._signals == 1 else HURRY)
        self._loop.call_soon_threadsafe(self.stop)
        if self._signals == 2:  # the next one is the system's
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)

    def _in_hand(self) -> str:
        """What is unsettled, by subscription; in the end, the threads that keep the process."""
        if self._ended:
            return ", ".join(f"the thread {thread.name!r}" for thread in _lasting())
        held = ((each.subscription.source, len(each.session.in_hand)) for each in self._bus.runners if each.session)
        return ", ".join(f"{count} in hand of {source}" for source, count in held if count)

    async def health(self) -> Health:
        """The bus's, and not ready while it starts or stops."""
        health = self._bus.health()
        if self._stops:
            return replace(health, ready=False, problems=("stopping", *health.problems))
        return replace(health, ready=health.ready and self._running)

    async def _consume(self) -> None:
        set_aside()
        self._running = True
        subscriptions = len(self._bus.runners)
        log.info("consuming from %d subscriptions", subscriptions, extra={"subscriptions": subscriptions})
        self._say_where()
        await self._soft.wait()
        grace = self._grace
        log.info("stopping: up to %g s for running handlers", grace, extra={"grace": grace})
        draining = asyncio.ensure_future(self._drain(grace))
        insisting = asyncio.ensure_future(self._hard.wait())
        try:
            await asyncio.wait([draining, insisting], return_when=asyncio.FIRST_COMPLETED)
            if not draining.done():
                log.warning("told to stop again: cancelling running handlers")
                await self._drain(0.0)
            await draining
        finally:
            insisting.cancel()
            draining.cancel()

    def _say_where(self) -> None:
        """The broker of each subscription: a service that reads from the wrong one looks like an idle one."""
        places: dict[str, list[str]] = {}
        for runner in self._bus.runners:
            places.setdefault(runner.link.name, []).append(str(runner.subscription.source))
        for place, sources in places.items():
            log.info("on %s: %s", place, ", ".join(sources))
        if self._bus.settings.is_in_process_unasked:
            log.warning(
                "MSGBUS_URL is not set: what has no route stays in this process, on memory://, and ends with it"
                " (MSGBUS_URL=memory:// says that it is meant)"
            )

    async def _drain(self, grace: float) -> None:
        await asyncio.gather(*(runner.stop(grace) for runner in self._bus.runners))

    def _listen(self, stack: AsyncExitStack, lifeline: int | None) -> None:
        stack.callback(self._let_go)
        self._loop = loop = asyncio.get_running_loop()
        for number in SIGNALS:
            stack.callback(signal.signal, number, signal.signal(number, self._signalled))
        if lifeline is not None:
            loop.add_reader(lifeline, self._supervisor_is_gone, lifeline)
            stack.callback(loop.remove_reader, lifeline)

    def _let_go(self) -> None:
        """A thread can't be cancelled, and the process does not end before it: unless the watchdog ends both."""
        self._ended = True
        if not _lasting():
            self._watchdog.call_off()

    def _supervisor_is_gone(self, lifeline: int) -> None:
        asyncio.get_running_loop().remove_reader(lifeline)
        os.close(lifeline)
        log.warning("the supervisor is gone")
        self._watchdog.bite_in(HURRY if self._stops else self._grace + MARGIN)
        self.stop()


def _lasting() -> list[threading.Thread]:
    """Threads that Python waits for at its end."""
    return [thread for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()]

"""One process of `msgbus run`: consume until told to stop, first softly, then hard."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from msgbus.bus import Bus
from msgbus.cli.health import Place, serving
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

    `grace`: seconds that running handlers have after the first `stop`, the bus's own setting by default.
    """

    def __init__(self, bus: Bus, grace: float | None = None) -> None:
        self._bus = bus
        self._grace = grace
        self._running = False
        self._stops = 0
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
        if self._stops == 2:
            for number in SIGNALS:
                asyncio.get_running_loop().remove_signal_handler(number)

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
        await self._soft.wait()
        grace = self._bus.settings.grace if self._grace is None else self._grace
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

    async def _drain(self, grace: float) -> None:
        await asyncio.gather(*(runner.stop(grace) for runner in self._bus.runners))

    def _listen(self, stack: AsyncExitStack, lifeline: int | None) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.stop)
            stack.callback(loop.remove_signal_handler, number)
        if lifeline is not None:
            loop.add_reader(lifeline, self._supervisor_is_gone, lifeline)
            stack.callback(loop.remove_reader, lifeline)

    def _supervisor_is_gone(self, lifeline: int) -> None:
        asyncio.get_running_loop().remove_reader(lifeline)
        os.close(lifeline)
        log.warning("the supervisor is gone")
        self.stop()

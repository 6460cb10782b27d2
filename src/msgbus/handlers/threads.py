"""Handlers that are plain functions: each subscription has threads for them, as many as may run at once."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Any, TypeVar

from msgbus.errors import BusError
from msgbus.handlers.context import LOOP

T = TypeVar("T")

log = logging.getLogger("msgbus.threads")

_LOOK = 1.0  # seconds between two looks at whether the loop is still there


class Threads:
    """The threads of one subscription, at most `size`; made when they are needed, ended by `close`.

    A thread can't be cancelled. Whoever waits for one waits out a first cancellation: the message is in hand, and its
    room taken, until the function has ended. A second one is obeyed: the thread is left behind.
    """

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._executor: ThreadPoolExecutor | None = None
        self._running: dict[object, str] = {}

    def of(self, function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        """The same function, run in a thread in the caller's context variables."""
        name = getattr(function, "__qualname__", repr(function))

        @functools.wraps(function)
        async def run(*args: Any, **kwargs: Any) -> Any:
            result = await self._run(name, functools.partial(function, *args, **kwargs))
            return (
                await result if inspect.isawaitable(result) else result
            )  # an async function, decorated by a plain one

        return run

    async def _run(self, name: str, function: Callable[[], Any]) -> Any:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._size, thread_name_prefix=f"msgbus {self._name}")
        work = self._executor.submit(copy_context().run, _called, function)
        self._running[work] = name
        work.add_done_callback(self._running.pop)
        ended = asyncio.wrap_future(work)
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            if work.cancel():  # it has not begun
                raise
            if not ended.done():
                log.warning("%s: %s can't be cancelled in its thread: its message waits for its end", self._name, name)
        return await ended

    def close(self) -> None:
        """Start nothing more, and tell what does not end."""
        if self._executor is None:
            return
        self._executor.shutdown(wait=False, cancel_futures=True)
        for name in list(self._running.values()):
            log.error("%s: %s still runs in its thread: the process does not end before it", self._name, name)


def _called(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except StopIteration as error:  # no future takes it
        raise RuntimeError("the handler raised StopIteration") from error


def from_thread(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await something in the bus's loop, from a handler or a dependency that is a plain function.

    `from_thread(bus.publish(orders, order))` returns what `await bus.publish(orders, order)` does, or raises it.
    Raises BusError elsewhere: in an `async def`, which has `await`, or where no message is being handled.
    """
    loop = LOOP.get()
    if loop is None or loop.is_closed() or _is_in_a_loop():
        coroutine.close()
        raise BusError("from_thread() is for plain functions that handle a message; elsewhere use `await`")
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    while not wait([future], _LOOK).done:
        if loop.is_closed():
            raise BusError("the event loop was closed: whether it was done is not known")
    return future.result()


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True

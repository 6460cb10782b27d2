"""A block that several parts of a program may enter: what it holds is there once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """The first to enter runs the block, until it leaves; who enters meanwhile waits for its start and shares it."""

    def __init__(self) -> None:
        self._running: asyncio.Future[T] | None = None

    @asynccontextmanager
    async def enter(self, block: Callable[[], AbstractAsyncContextManager[T]]) -> AsyncIterator[T]:
        """Enter `block()`, or share what it gave. Raises what its start raised, for all who waited for it."""
        if self._running is not None:
            yield await asyncio.shield(self._running)
            return
        self._running = running = asyncio.get_running_loop().create_future()
        try:
            async with block() as held:
                running.set_result(held)
                yield held
        except BaseException as error:
            if not running.done():
                if isinstance(error, Exception):
                    running.set_exception(error)
                    running.exception()  # looked at, where nobody else does
                else:
                    running.cancel()
            raise
        finally:
            self._running = None

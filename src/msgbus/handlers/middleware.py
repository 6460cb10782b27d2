"""Consume middlewares: plain functions around the next one, in the same task, so context variables work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from msgbus.message import Delivery

Handle = Callable[[Delivery], Awaitable[None]]
HandleBatch = Callable[[Sequence[Delivery]], Awaitable[Sequence[Exception | None]]]

ConsumeMiddleware = Callable[[Delivery, Handle], Awaitable[None]]
"""`async def mw(delivery, handle)`: awaits `handle(delivery)` or not. What it raises counts as an attempt."""


def compose(middlewares: Sequence[ConsumeMiddleware], handle: Handle) -> Handle:
    """One function of all; the first middleware is the outermost."""
    for middleware in reversed(middlewares):
        handle = _around(middleware, handle)
    return handle


def _around(middleware: ConsumeMiddleware, following: Handle) -> Handle:
    async def handle(delivery: Delivery) -> None:
        await middleware(delivery, following)

    return handle


def compose_batch(middlewares: Sequence[ConsumeMiddleware], handle: HandleBatch) -> HandleBatch:
    """The same middlewares around each entry of a batch: each may let its entry through, skip it or fail it.

    Without middlewares the batch handler is called as it is. With them each entry's chain needs a task of its
    own, since all of them wait for the one call in the middle.
    """
    if not middlewares:
        return handle

    async def handle_batch(batch: Sequence[Delivery]) -> Sequence[Exception | None]:
        meeting = _Meeting(len(batch), handle)
        chain = compose(middlewares, meeting.arrive)
        results = await asyncio.gather(*(meeting.walk(chain, delivery) for delivery in batch), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, Exception):
                raise result
        return [result if isinstance(result, Exception) else None for result in results]

    return handle_batch


class _Meeting:
    """Where the chains of a batch meet: the last one to arrive, or to end without arriving, starts the handler."""

    def __init__(self, expected: int, handle: HandleBatch) -> None:
        self._expected = expected
        self._handle = handle
        self._arrived: list[tuple[Delivery, asyncio.Future[Exception | None]]] = []

    async def walk(self, chain: Handle, delivery: Delivery) -> None:
        try:
            await chain(delivery)
        finally:
            if all(delivery is not other for other, _ in self._arrived):
                await self._one_less()

    async def arrive(self, delivery: Delivery) -> None:
        if any(delivery is other for other, _ in self._arrived):
            raise RuntimeError("a middleware called its handler twice for one entry of a batch")
        result: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._arrived.append((delivery, result))
        await self._one_less()
        error = await result
        if error is not None:
            raise error

    async def _one_less(self) -> None:
        self._expected -= 1
        if self._expected or not self._arrived:
            return
        try:
            errors = await self._handle([delivery for delivery, _ in self._arrived])
        except Exception as error:
            errors = [error] * len(self._arrived)
        for (_, result), outcome in zip(self._arrived, errors, strict=True):
            if not result.done():
                result.set_result(outcome)

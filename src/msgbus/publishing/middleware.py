"""Publish middlewares: plain functions around the wire, in the task that publishes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from msgbus.broker import Result
from msgbus.message import Outgoing

SendNext = Callable[[Sequence[Outgoing]], Awaitable[Sequence[Result]]]
PublishMiddleware = Callable[[Sequence[Outgoing], SendNext], Awaitable[Sequence[Result]]]
"""`async def mw(batch, send)`: looks at a batch, awaits `send(batch)` and returns one result per entry."""


def around(middlewares: Sequence[PublishMiddleware], send: SendNext) -> SendNext:
    """One function of all; the first middleware is the outermost."""
    for middleware in reversed(middlewares):
        send = _wrap(middleware, send)
    return send


def _wrap(middleware: PublishMiddleware, following: SendNext) -> SendNext:
    async def send(batch: Sequence[Outgoing]) -> Sequence[Result]:
        return await middleware(batch, following)

    return send

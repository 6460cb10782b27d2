"""The context of a handler: the message that it handles, and context variables of its own without a task of its own.

A long-lived worker would leak context variables from one message to the next; a task per message costs eight
times as much and cuts middlewares off from their handler (docs/decisions/0002-hot-path.md).
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from contextvars import Context, ContextVar
from typing import Any

from msgbus.message import Delivery

CURRENT: ContextVar[Delivery | None] = ContextVar("msgbus_current", default=None)
"""The message that is being handled, for what it causes (correlation, causation, tracing); None elsewhere."""

LOOP: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar("msgbus_loop", default=None)
"""The loop that handlers run on, for those of them that run in a thread."""


@types.coroutine
def resume(coroutine: Coroutine[Any, Any, Any], context: Context, awaited: Any) -> Generator[Any, Any, Any]:
    """Drive the rest of a coroutine, which has just yielded `awaited`, in `context`, inside the awaiting task."""
    while True:
        step: Any = coroutine.send
        try:
            value = yield awaited
        except BaseException as error:
            step, value = coroutine.throw, error
        try:
            awaited = context.run(step, value)
        except StopIteration as done:
            return done.value


async def isolated(coroutine: Coroutine[Any, Any, Any], context: Context) -> Any:
    """Await a coroutine in `context`."""
    try:
        awaited = context.run(coroutine.send, None)
    except StopIteration as done:
        return done.value
    return await resume(coroutine, context, awaited)

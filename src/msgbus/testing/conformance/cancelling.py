"""Cancels a coroutine exactly at one of its awaits."""

# ruff: noqa: S101

from __future__ import annotations

import asyncio
import itertools
import types
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

MOST = 25
"""Awaits of one call that are tried, one after the other."""


class Outcome(Generic[T]):
    """How a call ended: `cancelled`, or with its result in `value`."""

    def __init__(self, values: list[T]) -> None:
        self.cancelled = not values
        self._values = values

    @property
    def value(self) -> T:
        """Its result."""
        return self._values[0]


async def cancelled_at(call: Coroutine[Any, Any, T], place: int) -> Outcome[T]:
    """Run `call` as a task that is cancelled at its await number `place` (from 0), if it has so many."""
    values: list[T] = []

    async def run() -> None:
        values.append(await _drive(call, place))

    task = asyncio.ensure_future(run())
    await asyncio.wait([task])
    if task.cancelled():
        return Outcome([])
    task.result()
    assert not task.cancelling(), f"{call!r} swallowed its cancellation at await {place}"
    return Outcome(values)


@types.coroutine
def _drive(call: Coroutine[Any, Any, T], place: int) -> Generator[Any, Any, T]:
    """Hand on what the call awaits; before the one in question, ask the task to be cancelled."""
    step: Any = call.send
    sent: Any = None
    for at in itertools.count():
        try:
            awaited = step(sent)
        except StopIteration as done:
            result: T = done.value
            return result
        if at == place:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        try:
            sent = yield awaited
            step = call.send
        except BaseException as error:
            step, sent = call.throw, error
    raise AssertionError("unreachable")

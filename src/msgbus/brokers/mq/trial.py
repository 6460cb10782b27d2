"""Whose fault it was that the server ended a channel or a connection: found out by sending one message at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from msgbus.brokers.mq.errors import caused, objection
from msgbus.errors import BusError, Disconnected, Refused

M = TypeVar("M")
Publish = Callable[[Sequence[M]], Awaitable[Sequence[BusError | None]]]


class Trial:
    """What was under way when the server objected to one message, and did not say to which, is sent again alone.

    So it goes until as many have gone as were in doubt. The next end is then the fault of the one that was sent: it is
    Refused, and its neighbours are not.
    """

    def __init__(self) -> None:
        self._in_doubt = 0
        self._turn = asyncio.Lock()

    async def publish(self, batch: Sequence[M], publish: Publish[M]) -> Sequence[BusError | None]:
        """What `publish` says of each. Raises what it raises."""
        if self._in_doubt > 0:
            return [await self._alone(message, publish) for message in batch]
        results = await publish(batch)
        if any(results):
            self._in_doubt += sum(objection(result) is not None for result in results)
        return results

    async def _alone(self, message: M, publish: Publish[M]) -> BusError | None:
        async with self._turn:
            try:
                (result,) = await publish((message,))
            except Disconnected as error:
                return error
            told = objection(result)
            self._in_doubt -= 1
            return result if told is None else caused(Refused(told.text), told)

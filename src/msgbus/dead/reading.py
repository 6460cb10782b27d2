"""A receiver of dead letters at work: holds what it was given until that is removed or given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from msgbus import backoff
from msgbus.broker import Broker, Capabilities, Receiver
from msgbus.clock import Clock
from msgbus.errors import PASSING, BusError, LeaseLost
from msgbus.message import Act, Delivery, Settlement, Source

_TRIES = 5  # of a call that was throttled
_GIVE_BACK = 10.0  # seconds that giving letters back may take; leases that are not given back end by themselves


class Reading:
    """What one look at a queue of dead letters holds, in the order it came."""

    def __init__(self, receiver: Receiver, can: Capabilities, clock: Clock, wait: float) -> None:
        self.held: dict[Delivery, None] = {}
        self._receiver = receiver
        self._can = can
        self._clock = clock
        self._wait = wait
        self._beat = clock.now()

    async def next(self, most: int) -> Sequence[Delivery]:
        """Up to `most` more; [] when all have been seen, or none is wanted."""
        if most <= 0:
            return []
        await self._keep_leases()
        for attempt in range(1, _TRIES):
            try:
                return await self._receive(most, self._wait)
            except PASSING as error:
                await self._pause(attempt, error)
        return await self._receive(most, self._wait)

    async def remove(self, deliveries: Sequence[Delivery]) -> Sequence[BusError | None]:
        """Acknowledge: None for each that is gone, else why it is not."""
        results = await self._settle([Settlement(delivery, Act.ACK) for delivery in deliveries])
        for delivery, result in zip(deliveries, results, strict=True):
            if result is None or isinstance(result, LeaseLost):
                del self.held[delivery]
        return results

    async def give_back(self) -> None:
        """Everything that is held, unchanged."""
        with suppress(BusError, TimeoutError):
            async with asyncio.timeout(_GIVE_BACK):
                await self._receiver.stop()
                while await self._receive(self._can.receive_batch, 0.0):
                    pass
                await self._settle([Settlement(delivery, Act.RELEASE) for delivery in self.held])

    async def _receive(self, most: int, wait: float) -> Sequence[Delivery]:
        batch = await self._receiver.receive(min(most, self._can.receive_batch), wait)
        self.held.update(dict.fromkeys(batch))
        return batch

    async def _settle(self, settlements: Sequence[Settlement]) -> Sequence[BusError | None]:
        results: list[BusError | None] = []
        for start in range(0, len(settlements), self._can.settle_batch):
            results += await self._settle_batch(settlements[start : start + self._can.settle_batch])
        return results

    async def _settle_batch(self, batch: Sequence[Settlement]) -> Sequence[BusError | None]:
        results = list(await self._receiver.settle(batch))
        for attempt in range(1, _TRIES):
            again = [place for place, result in enumerate(results) if isinstance(result, PASSING)]
            if not again:
                break
            await self._pause(attempt, results[again[0]])
            for place, result in zip(again, await self._receiver.settle([batch[i] for i in again]), strict=True):
                results[place] = result
        return results

    async def _keep_leases(self) -> None:
        lease = self._can.lease
        if lease is None or not self._can.lease_extends or self._clock.now() < self._beat + lease / 3:
            return
        self._beat = self._clock.now()
        if self.held:
            await self._receiver.extend(list(self.held), lease)  # a letter whose lease is lost is seen again, no more

    async def _pause(self, attempt: int, error: object) -> None:
        asked = getattr(error, "retry_after", None) or 0.0
        await self._clock.sleep(asked + backoff.delay(attempt, 0.1, longest=5.0))


@asynccontextmanager
async def reading(broker: Broker, place: Source, prefetch: int, clock: Clock, wait: float) -> AsyncIterator[Reading]:
    """Open a queue of dead letters; whatever happens inside, what is still held then is given back."""
    async with broker.receiver(place, prefetch=prefetch) as receiver:
        opened = Reading(receiver, broker.capabilities(place), clock, wait)
        try:
            yield opened
        finally:
            await _to_its_end(opened.give_back())


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Even when the caller is cancelled: letters in hand must not stay invisible until their leases end."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise

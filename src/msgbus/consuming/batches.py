"""Runs a batch handler: one result per entry, whatever becomes of the batch."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Sequence

from msgbus.consuming.policy import Expired, Policy
from msgbus.consuming.worker import Worker, cancelled, raised, unfit
from msgbus.errors import LeaseLost, Timeout
from msgbus.handlers.context import isolated
from msgbus.handlers.subscription import Subscription
from msgbus.message import Delivery


class Batches:
    """The batch handler of a subscription. Each batch runs in a copy of `context`."""

    def __init__(self, subscription: Subscription, policy: Policy, context: contextvars.Context) -> None:
        self._handle = subscription.handle_batch
        self._open = subscription.open
        self._bisect = subscription.options.batch.bisect
        self._max_deliveries = policy.max_deliveries
        self._policy = policy
        self._context = context

    async def outcomes(self, batch: list[Delivery], worker: Worker) -> Sequence[Exception | None]:
        """None or an error for each entry. A batch that raised may be handled in halves, one that was cut off not."""
        try:
            results: Sequence[Exception | None] = await isolated(self._handle_batch(batch), self._context.copy())
        except asyncio.CancelledError:
            return [cancelled(worker)] * len(batch)
        except BaseException as error:
            interruption = worker.take_interruption()
            if interruption is None and self._bisect and len(batch) > 1:
                return await self._in_halves(batch, worker)
            return [interruption or raised(error)] * len(batch)
        if worker.interruption is not None or worker.task.cancelling():
            await worker.calm()
        return results

    async def _in_halves(self, batch: list[Delivery], worker: Worker) -> Sequence[Exception | None]:
        half = len(batch) // 2
        first = await self.outcomes(batch[:half], worker)
        cut = next((error for error in first if isinstance(error, (Timeout, LeaseLost))), None)
        rest = [cut] * (len(batch) - half) if cut is not None else await self.outcomes(batch[half:], worker)
        return [*first, *rest]

    async def _handle_batch(self, batch: Sequence[Delivery]) -> Sequence[Exception | None]:
        """An entry whose envelope is damaged, that came too often or has expired, fails alone."""
        results: list[Exception | None] = [self._preflight(delivery) for delivery in batch]
        good = [place for place, error in enumerate(results) if error is None]
        handle = self._handle
        if good and handle is not None:
            outcomes = await handle([batch[place] for place in good])
            for place, outcome in zip(good, outcomes, strict=True):
                results[place] = None if outcome is None else raised(outcome)
        return results

    def _preflight(self, delivery: Delivery) -> Exception | None:
        if delivery.fault is not None or delivery.deliveries > self._max_deliveries:
            return unfit(delivery)
        try:
            if self._open is not None:
                self._open(delivery)
        except Exception as error:
            return error
        return Expired() if self._policy.has_expired(delivery) else None

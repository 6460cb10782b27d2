"""Fetches the bodies that travelled by way of a store, before what decodes them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgbus import headers as h
from msgbus.envelope.claim import BodyStore
from msgbus.handlers.middleware import Handle, HandleBatch
from msgbus.message import Delivery


def fetching(store: BodyStore, handle: Handle) -> Handle:
    """Fetch the body first, where the delivery is a pointer."""

    async def fetch_and_handle(delivery: Delivery) -> None:
        if store.holds(delivery):
            await store.fetch(delivery)
        else:
            _without_claim(delivery)
        await handle(delivery)

    return fetch_and_handle


def fetching_batch(store: BodyStore, handle: HandleBatch) -> HandleBatch:
    """The same for a batch, all bodies at once; an entry whose body can't be fetched fails alone."""

    async def fetch_and_handle(batch: Sequence[Delivery]) -> Sequence[Exception | None]:
        for delivery in batch:
            _without_claim(delivery)
        pointers = [(place, delivery) for place, delivery in enumerate(batch) if store.holds(delivery)]
        fetched = await asyncio.gather(*(store.fetch(delivery) for _, delivery in pointers), return_exceptions=True)
        results: list[Exception | None] = [None] * len(batch)
        for (place, _), outcome in zip(pointers, fetched, strict=True):
            if isinstance(outcome, Exception):
                results[place] = outcome
        good = [place for place, error in enumerate(results) if error is None]
        if good:
            outcomes = await handle([batch[place] for place in good])
            for place, error in zip(good, outcomes, strict=True):
                results[place] = error
        return results

    return fetch_and_handle


def _without_claim(delivery: Delivery) -> None:
    """A reference that a producer wrote must not decide what is deleted."""
    if h.CLAIM in delivery.headers:
        delivery.headers = {name: value for name, value in delivery.headers.items() if name != h.CLAIM}

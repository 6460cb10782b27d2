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
        await fetch(store, delivery)
        await handle(delivery)

    return fetch_and_handle


def fetching_batch(store: BodyStore, handle: HandleBatch) -> HandleBatch:
    """The same for a batch, all bodies at once; an entry whose body can't be fetched fails alone."""

    async def fetch_and_handle(batch: Sequence[Delivery]) -> Sequence[Exception | None]:
        fetched = await asyncio.gather(*(fetch(store, delivery) for delivery in batch), return_exceptions=True)
        results = [outcome if isinstance(outcome, Exception) else None for outcome in fetched]
        good = [place for place, error in enumerate(results) if error is None]
        if good:
            outcomes = await handle([batch[place] for place in good])
            for place, error in zip(good, outcomes, strict=True):
                results[place] = error
        return results

    return fetch_and_handle


async def fetch(store: BodyStore, delivery: Delivery) -> None:
    """Have the body there, where the delivery is a pointer that was not followed yet.

    A reference that a producer wrote must not decide what is deleted: only one that was fetched here stays, and it
    stays when the delivery is tried again in hand.
    """
    claim = delivery.headers.get(h.CLAIM)
    if claim.__class__ is _Fetched:
        return
    if claim is not None:
        delivery.headers = {name: value for name, value in delivery.headers.items() if name != h.CLAIM}
    if store.holds(delivery):
        await store.fetch(delivery)
        delivery.headers = {**delivery.headers, h.CLAIM: _Fetched(delivery.headers[h.CLAIM])}


class _Fetched(str):
    """A reference that the store gave here: what comes over the wire is never of this class."""

    __slots__ = ()

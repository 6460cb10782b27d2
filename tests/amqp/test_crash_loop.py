"""A message that kills its process again and again is dead alone, over both clients."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from tests.servers import Handle
from tests.slowness import slowness

from msgbus import Bus, Limits, Queue, Retry
from msgbus.config import Settings

ITEMS = Queue("items", dict[str, int])
GOOD = 10


@pytest.mark.parametrize("client", ["lean", "aio-pika"])
async def test_neighbours_are_not_blamed(rabbitmq: Handle, client: str) -> None:
    bus = Bus(settings=Settings(url=f"{rabbitmq.url}?client={client}", prefix=f"t{uuid.uuid4().hex[:8]}-"))
    seen: set[int] = set()
    done, dead = asyncio.Event(), asyncio.Event()

    async def on_dead(*_: object) -> None:
        dead.set()

    retry = Retry(attempts=2, max_deliveries=12, on_dead=on_dead)

    @bus.consumer(ITEMS, retry=retry, limits=Limits(concurrency=1, prefetch=20))
    async def work(item: dict[str, int]) -> None:
        if item["number"] < 0:
            (link,) = bus.links.values()
            await link.broker.close()  # all that is in hand is lost, as with a process
            await asyncio.Event().wait()
        seen.add(item["number"])
        if len(seen) == GOOD:
            done.set()

    async with bus.consuming():
        await bus.send(ITEMS, {"number": -1})
        for number in range(GOOD):
            await bus.send(ITEMS, {"number": number})
        async with asyncio.timeout(60 * slowness()):
            await done.wait()
            await dead.wait()
        assert bus.runners[0].subscription.stats.dead == 1

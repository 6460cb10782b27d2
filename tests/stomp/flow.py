"""Numbered items through a Bus, and the account of what became of each."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.effort import messages
from tests.slowness import slowness

from msgbus import Bus, Topic
from msgbus.config import Settings
from msgbus.options import Limits, Retry

COUNT = messages(10_000)
"""Messages of a flow, each different."""

PATIENCE = 45.0 * slowness()  # seconds: a server starts again in between
SPAN = PATIENCE + COUNT / 200  # seconds of a whole flow, on a machine with much else to do
PREFETCH = 50
BATCH = max(10, COUNT // 100)


@dataclass(frozen=True)
class Item:
    """A message; `number` is its own."""

    key: str
    number: int


def a_bus(url: str, prefix: str) -> Bus:
    """A Bus that waits as long as the test does."""
    return Bus(
        settings=Settings(
            url=url, prefix=prefix, provision="create", routes={}, publish_timeout=PATIENCE, connect_timeout=PATIENCE
        )
    )


class Flow:
    """`count` items on one topic, published in batches on one Bus and handled on another."""

    def __init__(self, url: str, count: int = COUNT, *, ordered: bool = False, consumer_url: str = "") -> None:
        prefix = f"f{uuid.uuid4().hex[:8]}-"
        self.items = [Item(f"k{number % 7}", number) for number in range(count)]
        self.seen: list[int] = []
        self.distinct: set[int] = set()
        self.topic = Topic("items", Item, key="key", ordered=ordered)
        self.publisher, self.consumer = a_bus(url, prefix), a_bus(consumer_url or url, prefix)
        self._changed = asyncio.Condition()
        self.consumer.subscriber(
            self.topic,
            group="g",
            retry=Retry(attempts=20, first_delay=0.01, max_delay=0.5),
            limits=Limits(prefetch=PREFETCH, concurrency=8),
        )(self.handle)

    async def handle(self, item: Item) -> None:
        """Count it."""
        self.seen.append(item.number)
        self.distinct.add(item.number)
        async with self._changed:
            self._changed.notify_all()

    async def publish(self) -> None:
        """All, a batch after the other."""
        for start in range(0, len(self.items), BATCH):
            await self.publisher.publish_many(self.topic, self.items[start : start + BATCH])

    async def until(self, count: int) -> None:
        """Wait until so many different items were handled."""
        await self.wait(lambda: len(self.distinct) >= count)

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until it is so; it is looked at after every item."""
        async with self._changed:
            await self._changed.wait_for(condition)

    async def run(self, *faults: tuple[int, Callable[[], Awaitable[None]]]) -> None:
        """Publish and handle all; each fault strikes when so many items were handled."""
        async with asyncio.timeout(SPAN), self.publisher, self.consumer.consuming():
            publishing = asyncio.create_task(self.publish())
            for count, strike in faults:
                await self.until(count)
                await strike()
            await publishing
            await self.until(len(self.items))

    def account(self, *, faults: int) -> None:
        """None is lost; those that came twice were in hand, or being published, when a fault struck."""
        assert self.distinct == {item.number for item in self.items}
        twice = [number for number, count in Counter(self.seen).items() if count > 1]
        assert len(twice) <= faults * (PREFETCH + 4 * BATCH), f"{len(twice)} came twice"

    def in_order(self) -> bool:
        """Whether each key's items were first seen in the order they were published in."""
        first = dict.fromkeys(self.seen)
        by_key = itertools.groupby(sorted(first, key=lambda number: number % 7), key=lambda number: number % 7)
        return all(numbers == sorted(numbers) for numbers in (list(group) for _, group in by_key))

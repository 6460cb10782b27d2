"""What the tests of a whole service share: what they publish, who counts it, and how it is handled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from msgbus.bus import Bus
from msgbus.message import Source
from msgbus.options import Lease, Limits, Retry
from msgbus.testing.conformance.claims import not_claimed
from msgbus.testing.conformance.lab import Lab
from msgbus.topic import Queue, Rpc, Topic


@dataclass(frozen=True)
class Item:
    """What the tests publish."""

    key: str
    number: int


async def until(predicate: Callable[[], bool], lab: Lab) -> None:
    """Wait for something that is counted."""
    async with asyncio.timeout(2 * lab.harness.patience):
        while not predicate():  # noqa: ASYNC110 - counts have no event
            await asyncio.sleep(lab.harness.quiet / 10)


class Publish(Protocol):
    """Publishes items in one call."""

    async def __call__(self, *items: Item) -> None: ...


class Tally:
    """What the handlers saw, and a way to wait for it."""

    def __init__(self, patience: float) -> None:
        self.seen: list[Item] = []
        self._patience = patience
        self._changed = asyncio.Condition()

    async def add(self, item: Item) -> None:
        """One more."""
        async with self._changed:
            self.seen.append(item)
            self._changed.notify_all()

    async def until(self, count: int, of: str = "") -> list[Item]:
        """Wait until `count` different items were seen; `of`: only those with that key count."""
        async with asyncio.timeout(self._patience), self._changed:
            await self._changed.wait_for(lambda: len(set(self.those(of))) >= count)
        return self.seen

    def those(self, key: str) -> list[Item]:
        """What was seen with that key; "": all."""
        return [item for item in self.seen if key in ("", item.key)]


def subscribe(
    lab: Lab,
    bus: Bus,
    handler: Callable[[Any], Awaitable[None]],
    retry: Retry,
    *,
    ordered: bool = False,
    limits: Limits | None = None,
    lease: Lease | None = None,
) -> tuple[Source, Publish]:
    """Handle what is published to a topic, or sent to a queue where there are no topics."""
    topic, queue = Topic("items", Item, key="key", ordered=ordered), Queue("items", Item, key="key", ordered=ordered)
    if lab.can.fanout:
        bus.subscriber(topic, group="g", retry=retry, limits=limits, lease=lease)(handler)
    else:
        bus.consumer(queue, retry=retry, limits=limits, lease=lease)(handler)

    async def publish(*items: Item) -> None:
        await bus.publish_many(topic if lab.can.fanout else queue, items)

    name = lab.prefix + "items"
    source = Source("topic", name, "g", ordered) if lab.can.fanout else Source("queue", name, ordered=ordered)
    return source, publish


def call_of(lab: Lab) -> Rpc[Item, Item]:
    """A call, where the broker has reply inboxes."""
    if not lab.can.reply:
        not_claimed("reply", "the bus refuses calls, see test_calls_are_refused_without_inboxes")
    return Rpc("add", Item, Item)

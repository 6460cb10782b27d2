"""A server that is away, a queue that somebody deletes: health tells it, neighbours go on, and its end is told too."""

# ruff: noqa: S101

from __future__ import annotations

import asyncio

from msgbus.bus import Bus
from msgbus.errors import BusError
from msgbus.message import Source
from msgbus.options import Retry
from msgbus.testing.conformance.base import Base
from msgbus.testing.conformance.claims import about
from msgbus.testing.conformance.flow import Item, Publish, Tally, subscribe, until
from msgbus.testing.conformance.lab import Lab
from msgbus.topic import Queue, Topic

_RETRY = Retry(first_delay=0.01, max_delay=0.02)


class TroubleTests(Base):
    """Skipped where the harness knows no way to bring it about."""

    @about("receive_batch")
    async def test_an_outage_is_told_and_its_end_too(self, lab: Lab) -> None:
        lab.harness.needs("outage")
        bus, tally = lab.bus(), Tally(2 * lab.harness.patience)
        _, publish = subscribe(lab, bus, tally.add, _RETRY)
        async with bus.consuming():
            await publish(Item("a", 0))
            await tally.until(1)
            assert (bus.health().ready, bus.health().problems) == (True, ())
            async with lab.harness.outage():
                await until(lambda: not bus.health().ready, lab)
                assert bus.health().live
                assert bus.health().problems
            await until(lambda: bus.health().ready, lab)
            await publish(Item("a", 1))
            await tally.until(2)
            assert bus.health().problems == ()

    @about("send_batch")
    async def test_who_publishes_alone_tells_an_outage_too(self, lab: Lab) -> None:
        lab.harness.needs("outage")
        bus = lab.bus()
        publish = _publishing(lab, bus, "items")
        async with bus:
            await publish(Item("a", 0))
            async with lab.harness.outage():
                try:
                    async with asyncio.timeout(lab.harness.patience / 2):
                        await publish(Item("a", 1))
                except (TimeoutError, BusError):
                    pass
                assert not bus.health().ready
                assert bus.health().problems
            await publish(Item("a", 2))
            assert (bus.health().ready, bus.health().problems) == (True, ())

    @about("receive_batch")
    async def test_what_is_deleted_is_the_trouble_of_its_subscription(self, lab: Lab) -> None:
        lab.harness.needs("remove")
        bus, tally = lab.bus(), Tally(2 * lab.harness.patience)
        _, publish = subscribe(lab, bus, tally.add, _RETRY)
        doomed, publish_doomed = _subscribe_doomed(lab, bus, tally)
        async with bus.consuming():
            await publish(Item("a", 0))
            await publish_doomed(Item("doomed", 0))
            await tally.until(2)
            await lab.harness.remove(doomed)
            await until(lambda: any("doomed" in problem for problem in bus.health().problems), lab)
            await publish(*(Item("a", number) for number in range(1, 10)))
            await tally.until(10, of="a")
            assert [each.state for each in bus.health().subscriptions if "doomed" not in each.source.name] == [
                "running"
            ]
            await lab.declare(doomed)
            await publish_doomed(Item("doomed", 1))
            await tally.until(2, of="doomed")
            await until(lambda: bus.health().ready, lab)


def _subscribe_doomed(lab: Lab, bus: Bus, tally: Tally) -> tuple[Source, Publish]:
    name = lab.prefix + "doomed"
    if lab.can.fanout:
        bus.subscriber(Topic("doomed", Item), group="g", retry=_RETRY)(tally.add)
        return Source("topic", name, "g"), _publishing(lab, bus, "doomed")
    bus.consumer(Queue("doomed", Item), retry=_RETRY)(tally.add)
    return Source("queue", name), _publishing(lab, bus, "doomed")


def _publishing(lab: Lab, bus: Bus, name: str) -> Publish:
    """To a topic, or a queue where there are no topics; which must be there."""
    target = Topic(name, Item) if lab.can.fanout else Queue(name, Item)

    async def publish(*items: Item) -> None:
        await bus.publish_many(target, items)

    return publish

"""What a broker does not claim, the Bus refuses at start, before anything is sent or received."""

from __future__ import annotations

import pytest

from msgbus.bus import Bus
from msgbus.errors import ConfigError, Refused
from msgbus.message import Start
from msgbus.options import Select
from msgbus.testing.conformance.base import Base
from msgbus.testing.conformance.claims import about
from msgbus.testing.conformance.flow import Item
from msgbus.testing.conformance.lab import Lab
from msgbus.topic import Queue, Rpc, Topic


async def _ignore(item: Item) -> None: ...


async def _start(bus: Bus, *, works: bool) -> None:
    """Consuming starts exactly where the broker claims what it needs."""
    if works:
        async with bus.consuming():
            pass
    else:
        with pytest.raises(ConfigError):
            async with bus.consuming():
                pass


async def _publish(lab: Lab, bus: Bus, item: Item, delay: float = 0.0) -> None:
    if lab.can.fanout:
        await bus.publish(Topic("items", Item), item, delay=delay)
    else:
        await bus.send(Queue("items", Item), item, delay=delay)


class RefusalTests(Base):
    """Each works where it is claimed, and is refused with the reason where it is not."""

    @about("fanout")
    async def test_topics_are_refused_without_fanout(self, lab: Lab) -> None:
        bus = lab.bus()
        bus.subscriber(Topic("items", Item), group="g")(_ignore)
        await _start(bus, works=lab.can.fanout)

    @about("queues")
    async def test_queues_are_refused_where_there_are_none(self, lab: Lab) -> None:
        bus = lab.bus()
        bus.consumer(Queue("items", Item))(_ignore)
        await _start(bus, works=lab.can.queues)

    @about("order")
    async def test_ordered_is_refused_without_order(self, lab: Lab) -> None:
        bus = lab.bus()
        if lab.can.fanout:
            bus.subscriber(Topic("items", Item, key="key", ordered=True), group="g")(_ignore)
        else:
            bus.consumer(Queue("items", Item, key="key", ordered=True))(_ignore)
        await _start(bus, works=lab.can.order != "none")

    @about("replay")
    async def test_replay_is_refused_where_there_is_none(self, lab: Lab) -> None:
        bus = lab.bus()
        bus.subscriber(Topic("items", Item), group="g", select=Select(start=Start("oldest")))(_ignore)
        await _start(bus, works=lab.can.replay and lab.can.fanout)

    @about("reply")
    async def test_calls_are_refused_without_inboxes(self, lab: Lab) -> None:
        if lab.can.reply:
            pytest.skip("capability 'reply' is claimed, see test_request_and_reply")
        async with lab.bus() as bus:
            with pytest.raises(ConfigError):
                await bus.request(Rpc("add", Item, Item), Item("a", 1), timeout=1.0)

    @about("send_delay")
    async def test_delays_are_refused_where_there_are_none(self, lab: Lab) -> None:
        async with lab.bus() as bus:
            with pytest.raises(Refused):
                await _publish(lab, bus, Item("a", 1), delay=(lab.can.send_delay or 0.0) + 1.0)

    @about("message_bytes")
    async def test_a_payload_over_the_limit_is_refused(self, lab: Lab) -> None:
        if lab.can.message_bytes is None or lab.can.message_bytes > 2**23:
            pytest.skip("capability 'message_bytes' is not claimed, or larger than what a test should make")
        item = Item("x" * lab.can.message_bytes, 1)
        async with lab.bus() as bus:
            with pytest.raises(Refused):
                await _publish(lab, bus, item)

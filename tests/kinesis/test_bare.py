"""Records without an envelope: what strangers write is read, and strangers read what we write."""

from __future__ import annotations

import asyncio
import json

from pydantic import BaseModel
from tests.faults.kinesis_run import eventually
from tests.kinesis.conftest import Bench
from tests.slowness import slowness

from msgbus import Bus, Message, Topic
from msgbus.message import Act, Settlement, Start
from msgbus.options import Select


class Reading(BaseModel):
    meter: str
    watts: int


async def test_a_bare_topic_goes_both_ways(bench: Bench) -> None:
    readings = Topic(bench.topic, Reading, key="meter", bare=True)
    bus = Bus(bench.url())
    seen: list[tuple[str, int, str | None]] = []

    @bus.subscriber(readings, group="g", select=Select(start=Start("oldest")))
    async def read(message: Message[Reading]) -> None:
        seen.append((message.payload.meter, message.payload.watts, message.key))

    async def both() -> bool:
        return len(seen) >= 2

    stranger = await bench.broker()
    async with bus.consuming():
        await bus.publish(readings, Reading(meter="a", watts=5))
        await stranger.send([bench.out(b'{"meter": "b", "watts": 7}', key="b")])
        async with asyncio.timeout(20 * slowness()):
            await eventually(both, 0.02)
    assert sorted(seen) == [("a", 5, "a"), ("b", 7, "b")]

    source = await bench.group(stranger, "stranger", start=Start("oldest"))
    bodies: list[dict[str, object]] = []
    async with stranger.receiver(source, prefetch=10) as receiver, asyncio.timeout(20 * slowness()):
        while len(bodies) < 2:
            for delivery in await receiver.receive(10, 1.0):
                bodies.append(json.loads(delivery.body))
                await receiver.settle([Settlement(delivery, Act.ACK)])
    assert sorted(bodies, key=str) == [{"meter": "a", "watts": 5}, {"meter": "b", "watts": 7}]

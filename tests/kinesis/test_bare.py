"""Records without an envelope: what strangers write is read, and strangers read what we write."""

from __future__ import annotations

import asyncio
import json

import pytest
from pydantic import BaseModel
from tests.faults.kinesis_run import eventually
from tests.kinesis.conftest import Bench
from tests.slowness import slowness

from msgbus import Bus, DecodeError, Delivery, Message, Topic
from msgbus.brokers.kinesis.parts import taken_apart
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


@pytest.mark.parametrize("form", ["lines", "netstrings"])
async def test_records_that_async_kinesis_filled_are_taken_apart(bench: Bench, form: str) -> None:
    """As its JsonLineProcessor and its netstrings write them: one that can't be read fails alone."""
    readings, buried, seen = Topic(bench.topic, Reading), list[bytes](), list[int]()

    async def on_dead(delivery: Delivery, error: Exception) -> None:
        buried.append(delivery.body)

    bus = Bus(bench.url(parts=form), on_dead=[on_dead])

    @bus.subscriber(readings, group="g", select=Select(start=Start("oldest")))
    async def read(reading: Reading) -> None:
        seen.append(reading.watts)

    async def all_came() -> bool:
        return len(seen) >= 102 and bool(buried)

    payloads = [json.dumps({"meter": "m", "watts": number}).encode() for number in range(100)]
    payloads.insert(50, b'{"odd": 1}')
    filled = b"".join(part + b"\n" if form == "lines" else b"%d:%b," % (len(part), part) for part in payloads)
    stranger = await bench.broker()
    async with bus.consuming():
        await bus.publish(readings, Reading(meter="ours", watts=100))
        await stranger.send([bench.out(filled, key="k"), bench.out(b'{"meter": "alone", "watts": 101}', key="k")])
        async with asyncio.timeout(30 * slowness()):
            await eventually(all_came, 0.02)
    assert (sorted(seen), buried) == (list(range(102)), [b'{"odd": 1}'])


@pytest.mark.parametrize("data", [b"", b"x", b"1:a", b"1:ab,", b":,", b"-1:a,", b"5:a,", b"999999999:a,", b"1:a,1"])
def test_what_is_no_netstring_is_one_payload(data: bytes) -> None:
    assert taken_apart(data, "netstrings", 10) is None


def test_netstrings_may_be_empty_and_lines_may_be_too_many() -> None:
    assert taken_apart(b"0:,1:\n,", "netstrings", 10) == [b"", b"\n"]
    with pytest.raises(DecodeError, match="more than 10 lines"):
        taken_apart(b"x\n" * 11, "lines", 10)

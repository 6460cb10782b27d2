"""A record may be as large as its stream allows: kinesis-local says its limit, ministack says none."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.kinesis.conftest import Bench
from tests.kinesis.test_receiving import ack, some
from tests.servers import Handle
from tests.servers.fixtures import kinesis_local

from msgbus import Bus, Refused, Topic
from msgbus.broker import Binding, Part, QueueSpec, TopicSpec
from msgbus.brokers.kinesis import KinesisBroker
from msgbus.brokers.kinesis.stream import Limits, record_bytes_of
from msgbus.clock import SystemClock
from msgbus.config import Settings
from msgbus.message import Address, Outgoing, Source

__all__ = ["kinesis_local"]

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("told", "limit"),
    [
        ({}, MIB),
        ({"MaxRecordSizeInKiB": None}, MIB),
        ({"MaxRecordSizeInKiB": 1024}, MIB),
        ({"MaxRecordSizeInKiB": 4096}, 4 * MIB),
        ({"MaxRecordSizeInKiB": 10240}, 10 * MIB),
        ({"MaxRecordSizeInKiB": 99_999}, 10 * MIB),  # more than a call takes
        ({"MaxRecordSizeInKiB": 1}, MIB),
    ],
)
def test_what_a_summary_says(told: Mapping[str, Any], limit: int) -> None:
    assert record_bytes_of(told) == limit


def test_the_url_decides_where_it_says_something() -> None:
    asked, told = Limits(0), Limits(2 * MIB)
    for limits in (asked, told):
        limits.learn("large", {"MaxRecordSizeInKiB": 4096})
    assert (asked.of("large"), asked.of("other"), asked.least) == (4 * MIB, MIB, MIB)
    assert (told.of("large"), told.of("other"), told.least) == (2 * MIB, 2 * MIB, 2 * MIB)


@pytest.fixture
def endpoints(kinesis_local: Handle, ministack: Handle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams on one emulator, all else on the other."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", ministack.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", kinesis_local.url)


@asynccontextmanager
async def broker(**options: object) -> AsyncIterator[KinesisBroker]:
    given = {"shards": 1, "poll": 0.02, "reads": 50, "rate": 0, "leases": "memory", **options}
    opened = KinesisBroker(f"kinesis://us-east-1?{urlencode(given)}", clock=SystemClock())
    await opened.connect()
    try:
        yield opened
    finally:
        await opened.close()


def _size(taker: KinesisBroker, source: Source) -> int:
    size = taker.capabilities(source).message_bytes
    assert size is not None
    return size


@pytest.mark.usefixtures("endpoints")
async def test_a_stream_that_takes_more_gets_more() -> None:
    topic = f"t{uuid.uuid4().hex[:10]}"
    source = Source("topic", topic, "g")
    parts: list[Part] = [TopicSpec(topic), QueueSpec(source), Binding(topic, source)]
    async with broker(record_bytes=4 * MIB) as maker:
        await maker.admin.ensure(parts, "create")
    async with broker() as reader:
        assert _size(reader, source) < MIB  # not asked yet
        await reader.admin.ensure(parts, "create")
        assert 4 * MIB - 2048 < _size(reader, Source("topic", topic)) == _size(reader, source) < 4 * MIB
        assert _size(reader, Source("topic", "another")) < MIB
        bodies = [b"x" * size for size in (3 * MIB, 5 * MIB, 10)]
        out = [Outgoing(Address("topic", topic), str(n), body, {}, "k") for n, body in enumerate(bodies)]
        first, second, third = await reader.send(out)
        assert isinstance(second, Refused)
        assert not isinstance(first, Exception)
        assert not isinstance(third, Exception)
        async with reader.receiver(source, prefetch=10) as receiver:
            found = await some(receiver, 2)
            assert [len(delivery.body) for delivery in found] == [3 * MIB, 10]
            await ack(receiver, found)


@pytest.mark.usefixtures("endpoints")
async def test_the_bus_sends_what_the_stream_takes() -> None:
    large = Topic(f"t{uuid.uuid4().hex[:10]}", str)
    async with broker(record_bytes=2 * MIB) as maker:
        await maker.admin.ensure([TopicSpec(large.name)], "create")
    settings = Settings(url="kinesis://us-east-1?rate=0")
    async with Bus(settings=settings) as bus:
        await bus.publish(large, "x" * (MIB + MIB // 4))
        with pytest.raises(Refused, match="2,096,128"):
            await bus.publish(large, "x" * (2 * MIB))


@pytest.mark.usefixtures("endpoints")
async def test_a_stream_that_takes_less_than_the_url_says_is_found() -> None:
    spec = TopicSpec(f"t{uuid.uuid4().hex[:10]}")
    async with broker(record_bytes=2 * MIB) as maker:
        await maker.admin.ensure([spec], "create")
        assert list(await maker.admin.ensure([spec], "verify")) == []
    async with broker(record_bytes=4 * MIB) as other:
        (difference,) = await other.admin.ensure([spec], "verify")
        assert (difference.wanted, difference.found, difference.made) == (f"{4 * MIB} bytes", f"{2 * MIB} bytes", False)


async def test_a_service_that_says_no_limit_takes_a_mebibyte(bench: Bench) -> None:
    ministack = await bench.broker()
    source = await bench.group(ministack)
    assert MIB - 2048 < _size(ministack, source) < MIB
    (result,) = await ministack.send([bench.out(b"x" * MIB, "k")])
    assert isinstance(result, Refused)

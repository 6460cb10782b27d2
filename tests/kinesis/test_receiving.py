"""Workers of a group on ministack: what they read, give, lose and write."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence

import pytest
from tests.faults.http import Call, answer, passed
from tests.faults.kinesis_run import eventually
from tests.kinesis.conftest import Bench
from tests.slowness import slowness

from msgbus import LeaseLost, ReceiverClosed, Refused
from msgbus import headers as h
from msgbus.broker import Receiver
from msgbus.brokers.kinesis import KinesisBroker
from msgbus.brokers.kinesis.rows import SHARD_END, TRIM_HORIZON, Row
from msgbus.message import Act, Delivery, Settlement, Source, Start


async def some(receiver: Receiver, count: int) -> list[Delivery]:
    got: list[Delivery] = []
    async with asyncio.timeout(20 * slowness()):
        while len(got) < count:
            got += await receiver.receive(count - len(got), 1.0)
    return got


async def ack(receiver: Receiver, deliveries: Sequence[Delivery]) -> None:
    assert set(await receiver.settle([Settlement(delivery, Act.ACK) for delivery in deliveries])) <= {None}


def numbers(deliveries: Sequence[Delivery]) -> list[int]:
    return sorted(int(delivery.body) for delivery in deliveries)


async def rows(broker: KinesisBroker, source: Source) -> dict[str, Row]:
    return {row.shard: row for row in await broker._store(source).rows()}


async def until(broker: KinesisBroker, source: Source, condition: Callable[[Row], bool], *, owners: int = 0) -> None:
    """Until all leases are so, and of at least so many owners."""

    async def look() -> bool:
        found = (await rows(broker, source)).values()
        return all(map(condition, found)) and len({row.owner for row in found}) >= owners

    async with asyncio.timeout(15 * slowness()):
        await eventually(look, 0.02)


async def until_asked(broker: KinesisBroker, source: Source) -> None:
    """Until somebody waits for a shard."""

    async def look() -> bool:
        return any(row.giver for row in (await rows(broker, source)).values())

    async with asyncio.timeout(15 * slowness()):
        await eventually(look, 0.02)


async def until_closed(receiver: Receiver) -> None:
    """Read until it is over."""
    for _ in range(100):
        await receiver.receive(1, 0.2)


async def test_a_newcomer_gets_its_share_and_nothing_twice(bench: Bench) -> None:
    first, second = await bench.broker(), await bench.broker()
    source = await bench.group(first)
    outs = [bench.out(number, f"k{number}") for number in range(20)]
    async with first.receiver(source, prefetch=100) as one:
        await first.send(outs[:10])
        held = await some(one, 10)
        async with second.receiver(source, prefetch=100) as two:
            await until_asked(first, source)
            assert list(await two.receive(10, 0.3)) == [], "the other one still handles what it has"
            await ack(one, held)
            await until(first, source, lambda row: not row.giver, owners=2)
            await first.send(outs[10:])
            got: list[Delivery] = []
            shares = {id(one): 0, id(two): 0}
            async with asyncio.timeout(20 * slowness()):
                while len(got) < 10:
                    for receiver in (one, two):
                        batch = await receiver.receive(10, 0.05)
                        await ack(receiver, batch)
                        shares[id(receiver)] += len(batch)
                        got += batch
            assert numbers(got) == list(range(10, 20))
            assert all(shares.values())
    assert {row.owner for row in (await rows(first, source)).values()} == {""}


async def test_who_does_not_finish_in_time_loses_what_is_left(bench: Bench) -> None:
    first, second = await bench.broker(handover=0.2), await bench.broker()
    source = await bench.group(first)
    lost: list[Delivery] = []
    async with first.receiver(source, prefetch=100) as one:
        one.on_lost = lambda delivery, error: lost.append(delivery)  # type: ignore[attr-defined]
        await first.send([bench.out(number, f"k{number}") for number in range(20)])
        held = await some(one, 20)
        async with second.receiver(source, prefetch=100) as two:
            again = await some(two, 1)
            async with asyncio.timeout(10 * slowness()):
                while batch := await two.receive(100, 0.3):
                    again += batch
            assert numbers(again) == numbers(lost)
            assert 0 < len(lost) < 20
            results = await one.settle([Settlement(delivery, Act.ACK) for delivery in held])
            assert [isinstance(result, LeaseLost) for result in results] == [delivery in lost for delivery in held]
            extended = await one.extend(held[:1], 1.0)
            assert [type(result) for result in extended] == [LeaseLost]
            await ack(two, again)


async def test_attempts_and_what_is_settled_beyond_the_checkpoint_are_handed_over(bench: Bench) -> None:
    broker = await bench.broker(shards=1)
    source = await bench.group(broker)
    async with broker.receiver(source, prefetch=100) as receiver:
        await broker.send([bench.out(number, "k") for number in range(6)])
        held = await some(receiver, 6)
        held[0].attempt, held[0].headers = 3, {h.FIRST_FAILED: "1700000000.000"}
        await ack(receiver, [held[1], held[2], held[5]])
    async with broker.receiver(source, prefetch=100) as receiver:
        again = await some(receiver, 3)
        assert numbers(again) == [0, 3, 4]
        assert [delivery.attempt for delivery in again] == [3, 1, 1]
        assert list(await receiver.receive(10, 0.1)) == []
        await ack(receiver, again)
    (row,) = (await rows(broker, source)).values()
    assert row.position is not None
    assert row.progress == ""


async def test_a_write_whose_answer_is_lost_is_known_again(bench: Bench) -> None:
    broker = await bench.broker(shards=1)
    source = await bench.group(broker)
    lost = 0

    async def forgetful(call: Call) -> bytes | None:
        nonlocal lost
        if call.operation != "UpdateItem" or lost >= 3:
            return await passed(call)
        lost += 1
        await call.forward()
        return answer(500, json.dumps({"__type": "InternalServerError", "message": "by the test"}).encode())

    async with broker.receiver(source, prefetch=100) as receiver:
        await broker.send([bench.out(0, "k")])
        held = await some(receiver, 1)
        bench.meet = forgetful
        await ack(receiver, held)
        async with asyncio.timeout(10 * slowness()):
            while (await rows(broker, source))["shardId-000000000000"].position is None or lost < 3:
                await broker.send([bench.out(1, "k")])
                await ack(receiver, await some(receiver, 1))
    assert lost == 3


async def test_a_worker_that_was_set_back_reads_from_there(bench: Bench) -> None:
    broker = await bench.broker()
    source = await bench.group(broker)
    async with broker.receiver(source, prefetch=100) as receiver:
        await broker.send([bench.out(number, f"k{number}") for number in range(10)])
        await ack(receiver, await some(receiver, 10))
        await broker.admin.seek(source, Start("oldest"))
        again = await some(receiver, 10)
        assert numbers(again) == list(range(10))
        await ack(receiver, again)


async def test_a_lease_that_begins_anew_has_no_children(bench: Bench) -> None:
    broker = await bench.broker(shards=1)
    source = await bench.group(broker)
    store = broker._store(source)
    (row,) = await store.rows()
    assert await store.swap(row, row.changed(checkpoint=SHARD_END, children=("a", "b")))
    await broker.admin.seek(source, Start("oldest"))
    (again,) = await store.rows()
    assert (again.checkpoint, again.children) == (TRIM_HORIZON, ())


async def test_a_position_is_where_a_receipt_says(bench: Bench) -> None:
    broker = await bench.broker(shards=1)
    source = await bench.group(broker)
    results = await broker.send([bench.out(number, "k") for number in range(5)])
    await broker.admin.seek(source, Start("position", results[3].position))  # type: ignore[union-attr]
    async with broker.receiver(source, prefetch=10) as receiver:
        assert numbers(await some(receiver, 2)) == [3, 4]


async def test_an_expired_iterator_is_replaced(bench: Bench) -> None:
    broker = await bench.broker(shards=1)
    source = await bench.group(broker)
    refused = 0

    async def expired(call: Call) -> bytes | None:
        nonlocal refused
        if call.operation == "GetRecords" and bench.count("GetRecords") % 4 == 0:
            refused += 1
            return answer(400, json.dumps({"__type": "ExpiredIteratorException", "message": "by the test"}).encode())
        return await passed(call)

    bench.meet = expired
    async with broker.receiver(source, prefetch=100) as receiver:
        got: list[Delivery] = []
        for number in range(12):
            await broker.send([bench.out(number, "k")])
            batch = await some(receiver, 1)
            await ack(receiver, batch)
            got += batch
        assert [int(delivery.body) for delivery in got] == list(range(12))
    assert refused


async def test_a_shard_that_vanished_ends_and_its_children_are_read(bench: Bench) -> None:
    """As ministack has it: the parent of a split is gone at once, with what was in it."""
    broker = await bench.broker(shards=1, sync=0.2)
    source = await bench.group(broker)
    async with broker.receiver(source, prefetch=100) as receiver:
        await broker.send([bench.out(0, "k")])
        await ack(receiver, await some(receiver, 1))
        async with broker._lifetime.client.client("kinesis") as cold:
            params = {"ShardToSplit": "shardId-000000000000", "NewStartingHashKey": str(2**127)}
            await cold.split_shard(StreamName=bench.topic, **params)
        await broker.send([bench.out(number, f"k{number}") for number in range(1, 11)])
        await ack(receiver, got := await some(receiver, 10))
        assert numbers(got) == list(range(1, 11))


async def test_lag_is_told_of_each_shard_while_it_is_read(bench: Bench) -> None:
    broker = await bench.broker(shards=2)
    source = await bench.group(broker)
    await broker.send([bench.out(number, f"k{number}") for number in range(20)])
    async with broker.receiver(source, prefetch=100) as receiver:
        held = await some(receiver, 20)
        late = broker.status().lags
        assert [lag.source for lag in late] == [source] * 2
        assert {lag.part for lag in late} == {each.raw["ShardId"] for each in held}
        assert all(lag.seconds > 0 for lag in late)
        await ack(receiver, held)
        assert [lag.seconds for lag in broker.status().lags] == [0, 0]
    assert list(broker.status().lags) == []


async def test_a_stream_that_is_deleted_ends_the_receiver(bench: Bench) -> None:
    broker = await bench.broker()
    source = await bench.group(broker)
    async with broker.receiver(source, prefetch=100) as receiver:
        await broker.send([bench.out(0, "k")])
        await ack(receiver, await some(receiver, 1))
        async with broker._lifetime.client.client("kinesis") as cold:
            await cold.delete_stream(StreamName=bench.topic)
        with pytest.raises(ReceiverClosed):
            await until_closed(receiver)
    with pytest.raises(Refused, match="MSGBUS_PROVISION"):
        async with broker.receiver(source, prefetch=1):
            pass


async def test_a_table_that_is_deleted_ends_the_receiver(bench: Bench) -> None:
    broker = await bench.broker()
    source = await bench.group(broker)
    async with broker.receiver(source, prefetch=100) as receiver:
        async with broker._lifetime.client.client("dynamodb") as cold:
            await cold.delete_table(TableName=broker._store(source).name)
        with pytest.raises(ReceiverClosed):
            await until_closed(receiver)
    with pytest.raises(Refused, match="MSGBUS_PROVISION"):
        async with broker.receiver(source, prefetch=1):
            pass


async def test_who_leaves_takes_its_requests_back(bench: Bench) -> None:
    first, second = await bench.broker(), await bench.broker()
    source = await bench.group(first)
    async with first.receiver(source, prefetch=100) as one:
        await first.send([bench.out(number, f"k{number}") for number in range(10)])
        held = await some(one, 10)
        async with second.receiver(source, prefetch=100):
            await until_asked(first, source)
        assert not any(row.giver for row in (await rows(first, source)).values())
        await ack(one, held)
        await first.send([bench.out(number, f"k{number}") for number in range(10, 20)])
        await ack(one, got := await some(one, 10))
        assert numbers(got) == list(range(10, 20))


@pytest.mark.parametrize("leases", ["memory", "sqlite"])
async def test_leases_elsewhere(bench: Bench, leases: str, tmp_path: object) -> None:
    where = leases if leases == "memory" else f"sqlite+aiosqlite:///{tmp_path}/leases.db"
    broker = await bench.broker(leases=where)
    source = await bench.group(broker)
    async with broker.receiver(source, prefetch=100) as receiver:
        await broker.send([bench.out(number, f"k{number}") for number in range(10)])
        await ack(receiver, (await some(receiver, 10))[:7])
    async with broker.receiver(source, prefetch=100) as receiver:
        assert len(await some(receiver, 3)) == 3
    assert bench.count("UpdateItem") == 0


async def test_enhanced_fan_out_reads_the_same(bench: Bench) -> None:
    broker = await bench.broker(fanout="on", endpoint=bench.direct)
    source = await bench.group(broker)
    async with broker.receiver(source, prefetch=100) as receiver:
        await broker.send([bench.out(number, f"k{number}") for number in range(10)])
        got = await some(receiver, 10)
        assert numbers(got) == list(range(10))
        assert all(isinstance(delivery.sent_at, float) for delivery in got)
        await ack(receiver, got)
        await broker.send([bench.out(number, f"k{number}") for number in range(10, 20)])
        await ack(receiver, got := await some(receiver, 10))
        assert numbers(got) == list(range(10, 20))
        assert list(await receiver.receive(1, 0.1)) == []
    lag = await broker.admin.lag(source)
    assert [each.waiting for each in lag] == [0, 0]


async def test_enhanced_fan_out_goes_on_in_the_children(bench: Bench) -> None:
    broker = await bench.broker(fanout="on", shards=1, sync=0.2, endpoint=bench.direct)
    source = await bench.group(broker)
    async with broker.receiver(source, prefetch=100) as receiver:
        await broker.send([bench.out(0, "k")])
        await ack(receiver, await some(receiver, 1))
        async with broker._lifetime.client.client("kinesis") as cold:
            params = {"ShardToSplit": "shardId-000000000000", "NewStartingHashKey": str(2**127)}
            await cold.split_shard(StreamName=bench.topic, **params)
        await broker.send([bench.out(number, f"k{number}") for number in range(1, 11)])
        await ack(receiver, got := await some(receiver, 10))
        assert numbers(got) == list(range(1, 11))
    ended = (await rows(broker, source))["shardId-000000000000"]
    assert ended.ended
    assert ended.children == ("shardId-000000000001", "shardId-000000000002")


async def test_a_consumer_that_was_deregistered_is_registered_again(bench: Bench) -> None:
    broker = await bench.broker(fanout="on", shards=1, endpoint=bench.direct)
    source = await bench.group(broker)
    async with broker.receiver(source, prefetch=100) as receiver:
        await broker.send([bench.out(0, "k")])
        await ack(receiver, await some(receiver, 1))
        async with broker._lifetime.client.client("kinesis") as cold:
            arn = (await cold.describe_stream_summary(StreamName=bench.topic))["StreamDescriptionSummary"]["StreamARN"]
            await cold.deregister_stream_consumer(StreamARN=arn, ConsumerName="g")
        await broker.send([bench.out(1, "k")])
        assert numbers(await some(receiver, 1)) == [1]

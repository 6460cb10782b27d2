"""PutRecords: one result per message, whatever the service says of each."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from tests.faults.http import Call, answer, passed
from tests.kinesis.conftest import Bench

from msgbus import Refused, Throttled, Unavailable
from msgbus.brokers.aws import native_code
from msgbus.brokers.kinesis import KinesisMessage
from msgbus.brokers.kinesis.aggregation import decode
from msgbus.brokers.kinesis.hashing import HIGHEST, partition_key
from msgbus.message import Address, Receipt, Start


async def test_failures_are_told_by_position_and_nothing_else_fails(bench: Bench) -> None:
    broker = await bench.broker()
    await bench.group(broker)

    async def every_third(call: Call) -> bytes | None:
        if call.operation != "PutRecords":
            return await passed(call)
        records = call.params["Records"]
        kept = [record for place, record in enumerate(records) if place % 3]
        status, body = await call.forward(json.dumps({**call.params, "Records": kept}).encode())
        good = iter(json.loads(body)["Records"])
        said: list[Any] = [
            next(good)
            if place % 3
            else {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "slow down"}
            if place % 2
            else {"ErrorCode": "InternalFailure", "ErrorMessage": "oh"}
            for place in range(len(records))
        ]
        return answer(status, json.dumps({"FailedRecordCount": len(records) - len(kept), "Records": said}).encode())

    bench.meet = every_third
    results = await broker.send([bench.out(number, f"k{number}") for number in range(9)])
    kinds = [Unavailable, Receipt, Receipt, Throttled, Receipt, Receipt, Unavailable, Receipt, Receipt]
    assert [type(result) for result in results] == kinds
    assert native_code(results[3]) == "ProvisionedThroughputExceeded"  # type: ignore[arg-type]


async def test_a_service_with_lower_limits_gets_smaller_calls(bench: Bench) -> None:
    """ministack takes 5 MiB a call."""
    broker = await bench.broker()
    await bench.group(broker)
    results = await broker.send([bench.out(b"x" * 1_000_000, f"k{number}") for number in range(9)])
    assert [type(result) for result in results] == [Receipt] * 9
    assert bench.count("PutRecords") > 1


async def test_one_message_that_is_too_large_is_refused_alone(bench: Bench) -> None:
    broker = await bench.broker()
    await bench.group(broker)
    results = await broker.send([bench.out(b"x", "k"), bench.out(b"x" * (1 << 20), "k"), bench.out(b"y", "k")])
    assert [type(result) for result in results] == [Receipt, Refused, Receipt]
    assert "record_bytes" in str(results[1])


async def test_what_kinesis_has_not_is_refused(bench: Bench) -> None:
    broker = await bench.broker()
    queue, delayed = bench.out(1), bench.out(2)
    queue.address, delayed.delay = Address("queue", "work"), 5.0
    missing = bench.out(3)
    results = await broker.send([queue, delayed, missing])
    assert [type(result) for result in results] == [Refused] * 3
    assert "MSGBUS_ROUTES" in str(results[0])
    assert bench.topic in str(results[2])


async def test_an_explicit_hash_key_decides_the_shard(bench: Bench) -> None:
    broker = await bench.broker()
    await bench.group(broker)
    ends = [KinesisMessage(explicit_hash_key=0), KinesisMessage(explicit_hash_key=HIGHEST)]
    results = await broker.send([bench.out(1, "same", native=native) for native in ends])
    shards = [
        result.position.partition(":")[0] for result in results if isinstance(result, Receipt) and result.position
    ]
    assert shards == ["shardId-000000000000", "shardId-000000000001"]
    with pytest.raises(Refused, match="explicit_hash_key"):
        KinesisMessage(explicit_hash_key=HIGHEST + 1)


async def test_aggregates_are_few_records_and_each_message_has_its_receipt(bench: Bench) -> None:
    broker = await bench.broker(aggregate="on")
    source = await bench.group(broker)
    outs = [bench.out(number, f"k{number}") for number in range(100)]
    results = await broker.send(outs)
    assert [result.id for result in results if isinstance(result, Receipt)] == [out.id for out in outs]
    assert len({result.position for result in results if isinstance(result, Receipt)}) == 100
    (call,) = [call for call in bench.calls if call.operation == "PutRecords"]
    assert len(call.params["Records"]) == 2
    async with broker.receiver(source, prefetch=200) as receiver:
        got: list[int] = []
        while len(got) < 100:
            got += [int(delivery.body) for delivery in await receiver.receive(200, 5.0)]
    assert sorted(got) == list(range(100))


async def test_an_aggregate_that_landed_elsewhere_is_sent_again_but_for_what_belongs_there(bench: Bench) -> None:
    broker = await bench.broker(aggregate="on")
    source = await bench.group(broker)

    async def split_meanwhile(call: Call) -> bytes | None:
        if call.operation != "PutRecords" or bench.count("PutRecords") > 1:
            return await passed(call)
        async with broker._lifetime.client.client("kinesis") as cold:
            middle = str((HIGHEST // 2) // 2)
            params = {"ShardToSplit": "shardId-000000000000", "NewStartingHashKey": middle}
            await cold.split_shard(StreamName=bench.topic, **params)
        return await passed(call)

    bench.meet = split_meanwhile
    outs = [bench.out(number, f"k{number}") for number in range(40)]
    results = list(await broker.send(outs))
    again = [place for place, result in enumerate(results) if isinstance(result, Unavailable)]
    assert again, "nothing was in the other half"
    assert any(isinstance(result, Receipt) for result in results)
    for place, result in zip(again, await broker.send([outs[place] for place in again]), strict=True):
        results[place] = result
    assert {type(result) for result in results} == {Receipt}
    bench.meet = passed
    await broker.admin.seek(source, Start("oldest"))
    async with broker.receiver(source, prefetch=200) as receiver:
        got: list[int] = []
        while batch := await receiver.receive(200, 1.0):
            got += [int(delivery.body) for delivery in batch]
    assert sorted(got) == list(range(40)), "each once: what was sent twice is passed over where it does not belong"


async def test_more_than_a_shard_takes_waits_here(bench: Bench) -> None:
    broker = await bench.broker(rate=10, shards=1)
    await bench.group(broker)
    results = await broker.send([bench.out(number, f"k{number}") for number in range(30)])
    assert [type(result) for result in results] == [Receipt] * 10 + [Throttled] * 20
    waits = [result.retry_after for result in results if isinstance(result, Throttled)]
    assert all(wait is not None and 0 < wait <= 0.2 for wait in waits)


async def test_a_call_whose_answer_is_lost_is_unavailable_for_each(bench: Bench) -> None:
    broker = await bench.broker()
    await bench.group(broker)

    async def lost(call: Call) -> bytes | None:
        return None if call.operation == "PutRecords" else await passed(call)

    bench.meet = lost
    results = await broker.send([bench.out(number, "k") for number in range(3)])
    assert [type(result) for result in results] == [Unavailable] * 3


def test_keys_that_kinesis_does_not_take_become_their_hash() -> None:
    assert partition_key("k" * 256) == "k" * 256
    assert partition_key("k" * 257).startswith("sha256-")
    assert partition_key("\udcff").startswith("sha256-")
    assert partition_key("ü") == "ü"


async def test_a_message_for_one_group_looks_like_any_user_record(bench: Bench) -> None:
    broker = await bench.broker()
    await bench.group(broker)
    await broker.send([bench.out(b"again", "k", group="g")])
    (call,) = [call for call in bench.calls if call.operation == "PutRecords"]
    users = decode(base64.b64decode(call.params["Records"][0]["Data"]))
    assert users is not None
    assert [(user.key, user.data) for user in users] == [("k", b"again")]

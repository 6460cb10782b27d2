"""Shards are split and merged under load. Trusted: kinesis-local for streams, ministack for DynamoDB."""

import asyncio
from typing import Any

import pytest
from tests.effort import messages, pause
from tests.faults.kinesis_run import Run, eventually, new_topic, some_items
from tests.faults.kinesis_worker import Work
from tests.servers import Handle

from msgbus.brokers.aws import AwsClient, AwsSettings
from msgbus.brokers.kinesis.hashing import Shard
from msgbus.brokers.kinesis.stream import list_shards, summary

pytestmark = pytest.mark.faults

COUNT = messages(2000)


async def _opened(client: AwsClient, stream: str) -> list[Shard]:
    async def is_active() -> bool:
        told = await summary(client, stream)
        return told is not None and told["StreamStatus"] == "ACTIVE"

    await eventually(is_active)
    shards = await list_shards(client, stream)
    gone = {parent for shard in shards for parent in shard.parents}
    return sorted((shard for shard in shards if shard.id not in gone), key=lambda shard: shard.first)


async def _split(client: AwsClient, stream: str) -> None:
    widest = max(await _opened(client, stream), key=lambda shard: shard.last - shard.first)
    middle = str((widest.first + widest.last + 1) // 2)
    params = {"StreamName": stream, "ShardToSplit": widest.id, "NewStartingHashKey": middle}
    await client.call("kinesis", "SplitShard", params)
    await _opened(client, stream)


async def _merge(client: AwsClient, stream: str) -> None:
    first, second = (await _opened(client, stream))[:2]
    params = {"StreamName": stream, "ShardToMerge": first.id, "AdjacentShardToMerge": second.id}
    await client.call("kinesis", "MergeShards", params)
    await _opened(client, stream)


async def _all_ended(run: Run, parents: set[str]) -> bool:
    return parents <= run.books.ended()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("aggregate", ["off", "on"])
async def test_split_and_merge_under_load(kinesis_local: Handle, ministack: Handle, aggregate: str) -> None:
    items = some_items(COUNT, keys=50)
    work = Work(topic=new_topic(), pause=pause(0.001))
    settings = AwsSettings(endpoint=kinesis_local.url, region="us-east-1")
    run = Run(kinesis_local.url, ministack.url, work, shards=2, options=f"&aggregate={aggregate}")
    async with run, AwsClient(settings) as client:
        await run.start(2)
        changes: list[Any] = [_split, _merge, _split]
        fifth = COUNT // 5
        for place, change in enumerate(changes):  # shards of every generation get records, before and while they change
            publishing = asyncio.create_task(run.publish(items[place * fifth : (place + 1) * fifth], part=25))
            await run.handled(place * fifth + 1)
            await change(client, work.topic)
            await publishing
        await run.publish(items[3 * fifth :], part=50)
        await run.handled(COUNT)
        shards = await list_shards(client, work.topic)
        parents = {parent for shard in shards for parent in shard.parents}
        await eventually(lambda: _all_ended(run, parents))  # the end of a shard is read after its last record
        await eventually(run.drained)
        await run.stop()
        assert run.books.went_back() == []
        assert run.done == set(range(COUNT))
        assert run.disorder(items) == []
        assert run.books.ended() == parents
        assert run.unexplained() == []

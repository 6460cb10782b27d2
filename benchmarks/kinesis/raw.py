"""The raw twin: aiobotocore by hand. PutRecords of 500, one loop of GetRecords a shard, no leases, no checkpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from benchmarks.kinesis.payload import BATCH, BODY, KEYS, PAUSE, REGION, Order, handle, order


class Side:
    """Opened once, used round after round."""

    def __init__(self, endpoint: str, stream: str) -> None:
        self._endpoint, self._stream = endpoint, stream
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._loops: list[asyncio.Task[None]] = []
        self._handled: Callable[[], None] = lambda: None

    async def open(self, work: str) -> None:
        """`work`: send or consume."""
        config = AioConfig(max_pool_connections=20)
        client = AioSession().create_client("kinesis", endpoint_url=self._endpoint, region_name=REGION, config=config)
        self._client = await self._stack.enter_async_context(client)
        if work == "consume":
            shards = (await self._client.list_shards(StreamName=self._stream))["Shards"]
            for shard in shards:
                params = {"StreamName": self._stream, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
                iterator = (await self._client.get_shard_iterator(**params))["ShardIterator"]
                self._loops.append(asyncio.create_task(self._read(iterator)))

    async def close(self) -> None:
        """End the loops."""
        for loop in self._loops:
            loop.cancel()
        await self._stack.aclose()

    async def send(self, count: int) -> None:
        """Four calls in flight; failed records are sent again."""
        numbers = iter(range(count))

        async def work() -> None:
            while batch := [n for _, n in zip(range(BATCH), numbers, strict=False)]:
                records = [self._record(n) for n in batch]
                while records:
                    answer = await self._client.put_records(StreamName=self._stream, Records=records)
                    said = zip(records, answer["Records"], strict=True)
                    records = [record for record, result in said if "ErrorCode" in result]

        await asyncio.gather(*(work() for _ in range(4)))

    def listen(self, handled: Callable[[], None]) -> None:
        """Told after each record."""
        self._handled = handled

    async def _read(self, iterator: str) -> None:
        while True:
            answer = await self._client.get_records(ShardIterator=iterator, Limit=10_000)
            await self._handle(answer["Records"])
            iterator = answer["NextShardIterator"]
            if not answer["Records"]:
                await asyncio.sleep(PAUSE)

    def _record(self, number: int) -> dict[str, Any]:
        each = order(number)
        return {"Data": each.model_dump_json().encode(), "PartitionKey": each.customer}

    async def _handle(self, records: list[dict[str, Any]]) -> None:
        for record in records:
            await handle(Order.model_validate_json(record["Data"]))
            self._handled()


class Bytes(Side):
    """The calls alone: nothing is encoded or decoded, nobody is called."""

    def _record(self, number: int) -> dict[str, Any]:
        return {"Data": BODY, "PartitionKey": f"customer-{number % KEYS}"}

    async def _handle(self, records: list[dict[str, Any]]) -> None:
        for _ in records:
            self._handled()

"""The raw twin: aiobotocore by hand. Sends and deletes in batches of 10, 8 long polls in flight."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from benchmarks.sqs.payload import BATCH, POLLS, REGION, SENDERS, WAIT, decode, encode, order
from benchmarks.sqs.side import Handle


class Raw:
    """An aiobotocore client and the URL of a queue."""

    def __init__(self, sqs: Any, url: str) -> None:
        self._sqs = sqs
        self._url = url

    async def send(self, count: int) -> None:
        numbers = iter(range(count))

        async def work() -> None:
            while batch := list(itertools.islice(numbers, BATCH)):
                entries = [
                    {"Id": str(place), "MessageBody": encode(order(number))} for place, number in enumerate(batch)
                ]
                answer = await self._sqs.send_message_batch(QueueUrl=self._url, Entries=entries)
                assert not answer.get("Failed")

        await asyncio.gather(*(work() for _ in range(SENDERS)))

    async def send_one(self) -> None:
        await self._sqs.send_message(QueueUrl=self._url, MessageBody=encode(order(0)))

    @asynccontextmanager
    async def consuming(self, handle: Handle) -> AsyncIterator[None]:
        stopping = asyncio.Event()
        tasks = [asyncio.create_task(self._poll(handle, stopping)) for _ in range(POLLS)]
        yield
        stopping.set()
        await asyncio.gather(*tasks)

    async def _poll(self, handle: Handle, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            answer = await self._sqs.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=BATCH, WaitTimeSeconds=WAIT
            )
            if messages := answer.get("Messages"):
                for message in messages:
                    handle(decode(message["Body"]))
                entries = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(messages)]
                await self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)


@asynccontextmanager
async def open_side(endpoint: str, queue: str) -> AsyncIterator[Raw]:
    """With room for every poll and send."""
    config = AioConfig(max_pool_connections=POLLS + SENDERS + 10)
    async with AioSession().create_client("sqs", endpoint_url=endpoint, region_name=REGION, config=config) as sqs:
        yield Raw(sqs, (await sqs.get_queue_url(QueueName=queue))["QueueUrl"])

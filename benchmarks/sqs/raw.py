"""The raw twin: aiobotocore by hand. Sends and deletes in batches of 10, 8 long polls in flight."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from benchmarks.sqs.payload import Order, decode, encode

BATCH = 10
POLLS = 8
SENDERS = 8
WAIT = 1

Handle = Callable[[Order], None]


@contextlib.asynccontextmanager
async def client(url: str) -> AsyncIterator[Any]:
    """An aiobotocore client with room for every poll."""
    config = AioConfig(max_pool_connections=POLLS + SENDERS + 10)
    async with AioSession().create_client("sqs", endpoint_url=url, region_name="eu-west-1", config=config) as opened:
        yield opened


async def send(sqs: Any, queue: str, count: int) -> None:
    """`count` messages, from SENDERS tasks."""
    numbers = iter(range(count))

    async def work() -> None:
        while batch := list(itertools.islice(numbers, BATCH)):
            entries = [{"Id": str(place), "MessageBody": encode(number)} for place, number in enumerate(batch)]
            answer = await sqs.send_message_batch(QueueUrl=queue, Entries=entries)
            assert not answer.get("Failed")

    await asyncio.gather(*(work() for _ in range(SENDERS)))


async def consume(sqs: Any, queue: str, handle: Handle, done: asyncio.Event) -> None:
    """Until `done`: receive, handle, delete."""

    async def work() -> None:
        while not done.is_set():
            answer = await sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=BATCH, WaitTimeSeconds=WAIT)
            messages = answer.get("Messages") or ()
            for message in messages:
                handle(decode(message["Body"]))
            if messages:
                entries = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(messages)]
                await sqs.delete_message_batch(QueueUrl=queue, Entries=entries)

    await asyncio.gather(*(work() for _ in range(POLLS)))

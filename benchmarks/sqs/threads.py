"""boto3 in threads: a client that all share, 8 threads that send, 8 that poll, handle and delete."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import boto3
from botocore.config import Config

from benchmarks.sqs.payload import BATCH, POLLS, REGION, SENDERS, WAIT, Order, decode, encode, order
from benchmarks.sqs.side import Handle


class Threads:
    """A boto3 client and the URL of a queue."""

    def __init__(self, sqs: Any, url: str) -> None:
        self._sqs = sqs
        self._url = url
        self._lock = threading.Lock()

    async def send(self, count: int) -> None:
        numbers = iter(range(count))
        await asyncio.gather(*(asyncio.to_thread(self._send, numbers) for _ in range(SENDERS)))

    def _send(self, numbers: Any) -> None:
        while batch := self._next(numbers):
            entries = [{"Id": str(number % BATCH), "MessageBody": encode(order(number))} for number in batch]
            answer = self._sqs.send_message_batch(QueueUrl=self._url, Entries=entries)
            assert not answer.get("Failed")

    def _next(self, numbers: Any) -> list[int]:
        with self._lock:
            return list(itertools.islice(numbers, BATCH))

    async def send_one(self) -> None:
        await asyncio.to_thread(self._sqs.send_message, QueueUrl=self._url, MessageBody=encode(order(0)))

    @asynccontextmanager
    async def consuming(self, handle: Handle) -> AsyncIterator[None]:
        stopping, loop = threading.Event(), asyncio.get_running_loop()

        def handle_all(orders: list[Order]) -> None:
            for each in orders:
                handle(each)

        polls = [asyncio.to_thread(self._poll, handle_all, loop, stopping) for _ in range(POLLS)]
        tasks = [asyncio.create_task(poll) for poll in polls]
        yield
        stopping.set()
        await asyncio.gather(*tasks)

    def _poll(self, handle_all: Any, loop: asyncio.AbstractEventLoop, stopping: threading.Event) -> None:
        while not stopping.is_set():
            answer = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=BATCH, WaitTimeSeconds=WAIT)
            if messages := answer.get("Messages"):
                loop.call_soon_threadsafe(handle_all, [decode(message["Body"]) for message in messages])
                entries = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(messages)]
                self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)


@asynccontextmanager
async def open_side(endpoint: str, queue: str) -> AsyncIterator[Threads]:
    """With room for every poll and send."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(POLLS + SENDERS + 4))
    config = Config(max_pool_connections=POLLS + SENDERS + 10)
    sqs = boto3.client("sqs", endpoint_url=endpoint, region_name=REGION, config=config)
    yield Threads(sqs, sqs.get_queue_url(QueueName=queue)["QueueUrl"])
    sqs.close()

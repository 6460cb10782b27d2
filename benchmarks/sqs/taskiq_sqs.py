"""taskiq with taskiq-aio-sqs: batched sends, ten messages a receive, one delete per message: all that it has.

Its sends are gathered and go out in the background, so they are counted as sent when they have left its buffer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from taskiq.receiver import Receiver
from taskiq_aio_sqs import SQSBroker

from benchmarks.sqs.payload import BATCH, REGION, SENDERS, WAIT, Order, order
from benchmarks.sqs.side import Handle


class Confirming(SQSBroker):  # type: ignore[misc]
    """Tells what has left the buffer: `kiq` returns when a message is in it."""

    left = 0
    empty: asyncio.Event

    async def _send_batch_to_sqs(self, queue_name: str, batch: list[Any]) -> None:
        await super()._send_batch_to_sqs(queue_name, batch)
        self.left -= len(batch)
        if self.left == 0:
            self.empty.set()


class Taskiq:
    """A broker with one task."""

    def __init__(self, endpoint: str, queue: str) -> None:
        self.broker = Confirming(
            queue,
            endpoint_url=endpoint,
            region_name=REGION,
            wait_time_seconds=WAIT,
            max_number_of_messages=BATCH,
            enable_batching=True,
            batch_size=BATCH,
            batch_timeout=0.1,
        )
        self._handle: Handle

        async def consume(order: Order) -> None:
            self._handle(order)

        self._task: Any = self.broker.register_task(consume, task_name="consume")

    async def send(self, count: int) -> None:
        numbers = iter(range(count))
        self.broker.left, self.broker.empty = count, asyncio.Event()

        async def work() -> None:
            for number in numbers:
                await self._task.kiq(order(number))

        await asyncio.gather(*(work() for _ in range(SENDERS * BATCH)))
        await self.broker.empty.wait()

    async def send_one(self) -> None:
        await self._task.kicker().with_labels(skip_batching=True).kiq(order(0))

    @asynccontextmanager
    async def consuming(self, handle: Handle) -> AsyncIterator[None]:
        self._handle = handle
        stopping = asyncio.Event()
        receiver = Receiver(self.broker, max_async_tasks=100, max_prefetch=100, run_startup=False)
        listening = asyncio.create_task(receiver.listen(stopping))
        yield
        stopping.set()
        await listening


@asynccontextmanager
async def open_side(endpoint: str, queue: str) -> AsyncIterator[Taskiq]:
    taskiq = Taskiq(endpoint, queue)
    await taskiq.broker.startup()
    yield taskiq
    await taskiq.broker.shutdown()

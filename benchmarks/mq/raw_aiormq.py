"""Raw aiormq, tuned by hand: acknowledgements gathered into one `multiple` every two milliseconds."""

from __future__ import annotations

import asyncio
import uuid

import aiormq
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp.commands import Basic

from benchmarks.mq.payload import BATCH, BODY, HEADERS, PREFETCH, Order
from benchmarks.mq.timing import Stretch


async def handle(order: Order) -> None:
    """What is done with an order: nothing."""


class Gathered:
    """Says every two milliseconds how far it is. Handlers end in order here, so one mark is enough."""

    def __init__(self, channel: AbstractChannel) -> None:
        self.last = 0
        self._said = 0
        self._channel = channel

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(0.002)
            if self.last != self._said:
                self._said = self.last
                await self._channel.basic_ack(self._said, multiple=True, wait=False)


async def consume(url: str, queue_name: str, count: int) -> None:
    """Receive, validate, await the handler, remember the tag."""
    stretch, left, done = Stretch(count), count, asyncio.Event()
    connection = await aiormq.connect(url)
    channel = await connection.channel()
    await channel.basic_qos(prefetch_count=PREFETCH)
    acks = Gathered(channel)

    async def on_message(message: DeliveredMessage) -> None:
        nonlocal left
        await handle(Order.model_validate_json(message.body))
        acks.last = message.delivery_tag or 0
        left -= 1
        if not left:
            done.set()

    acknowledging = asyncio.create_task(acks.run())
    stretch.begin()
    await channel.basic_consume(queue_name, on_message)
    await done.wait()
    stretch.end()
    acknowledging.cancel()
    await connection.close()


async def gather(url: str, queue_name: str, count: int) -> None:
    """Publish in gathered hundreds, each confirmed."""
    stretch = Stretch(count)
    connection = await aiormq.connect(url)
    channel = await connection.channel()

    def one() -> asyncio.Future[object]:
        properties = Basic.Properties(
            headers=dict(HEADERS), content_type="application/json", delivery_mode=2, message_id=str(uuid.uuid4())
        )
        return asyncio.ensure_future(
            channel.basic_publish(BODY, routing_key=queue_name, properties=properties, wait=False)
        )

    stretch.begin()
    for _ in range(count // BATCH):
        await asyncio.gather(*(one() for _ in range(BATCH)))
    stretch.end()
    await connection.close()

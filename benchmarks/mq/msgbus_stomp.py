"""msgbus on STOMP: a whole Bus. The URL names the wire."""

from __future__ import annotations

import asyncio

from benchmarks.mq.payload import BATCH, HEADERS, ORDER, PREFETCH, Order
from benchmarks.mq.timing import Stretch
from msgbus import Bus, Queue
from msgbus.config import Settings
from msgbus.options import Limits


def _bus(url: str) -> Bus:
    return Bus(settings=Settings(url=url, provision="create", routes={}))


async def _ignore(order: Order) -> None: ...


async def prepare(url: str, queue_name: str, count: int) -> None:
    """Make the queue, and put messages into it."""
    bus, queue = _bus(url), Queue(queue_name, Order)
    bus.consumer(queue)(_ignore)
    async with bus.consuming():
        pass
    async with bus:
        for _ in range(count // BATCH):
            await bus.publish_many(queue, [ORDER] * BATCH, headers=HEADERS)


async def consume(url: str, queue_name: str, count: int) -> None:
    """Receive, validate, await the handler, ack: everything that a service does."""
    bus, stretch, left, done = _bus(url), Stretch(count), count, asyncio.Event()

    @bus.consumer(Queue(queue_name, Order), limits=Limits(prefetch=PREFETCH))
    async def handle(order: Order) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    async with bus:
        stretch.begin()
        async with bus.consuming():
            await done.wait()
            stretch.end()


async def publish(url: str, queue_name: str, count: int) -> None:
    """`publish_many` of a hundred, each confirmed."""
    bus, queue, stretch = _bus(url), Queue(queue_name, Order), Stretch(count)
    async with bus:
        await bus.send(queue, ORDER, headers=HEADERS)
        stretch.begin()
        for _ in range(count // BATCH):
            await bus.publish_many(queue, [ORDER] * BATCH, headers=HEADERS)
        stretch.end()


async def gather(url: str, queue_name: str, count: int) -> None:
    """A hundred tasks that publish one message each."""
    bus, queue, stretch = _bus(url), Queue(queue_name, Order), Stretch(count)
    async with bus:
        await bus.send(queue, ORDER, headers=HEADERS)
        stretch.begin()
        for _ in range(count // BATCH):
            await asyncio.gather(*(bus.send(queue, ORDER, headers=HEADERS) for _ in range(BATCH)))
        stretch.end()

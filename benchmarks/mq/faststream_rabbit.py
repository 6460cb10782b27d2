"""FastStream's RabbitBroker as its documentation shows it, with the logger off."""

from __future__ import annotations

import asyncio
import time

from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue

from benchmarks.mq.payload import BATCH, HEADERS, ORDER, PREFETCH, Order
from benchmarks.mq.timing import Stretch, print_latencies, print_span


def _queue(name: str) -> RabbitQueue:
    """One that is there."""
    return RabbitQueue(name, queue_type=QueueType.QUORUM, durable=True, declare=False)


async def consume(url: str, queue_name: str, count: int) -> None:
    """Its subscriber decodes, validates, awaits the handler and acknowledges."""
    broker, stretch, left, done = RabbitBroker(url, logger=None), Stretch(count), count, asyncio.Event()

    @broker.subscriber(_queue(queue_name), channel=Channel(prefetch_count=PREFETCH))
    async def handle(order: Order) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    await broker.connect()
    stretch.begin()
    await broker.start()
    await done.wait()
    stretch.end()
    await broker.stop()


async def gather(url: str, queue_name: str, count: int) -> None:
    """Publish in gathered hundreds, each confirmed."""
    broker, stretch = RabbitBroker(url, logger=None), Stretch(count)
    await broker.start()
    stretch.begin()
    for _ in range(count // BATCH):
        await asyncio.gather(*(broker.publish(ORDER, queue_name, persist=True, headers=HEADERS) for _ in range(BATCH)))
    stretch.end()
    await broker.stop()


async def calls(url: str, queue_name: str, count: int) -> None:
    """50 concurrent requests to a handler of 50 ms; the best of `count` tries."""
    broker = RabbitBroker(url, logger=None)

    @broker.subscriber(_queue(queue_name), channel=Channel(prefetch_count=PREFETCH))
    async def answer(order: Order) -> Order:
        await asyncio.sleep(0.05)
        return order

    await broker.start()
    spans = []
    for _ in range(count):
        began = time.perf_counter()
        await asyncio.gather(*(broker.request(ORDER, queue_name, timeout=30.0) for _ in range(50)))
        spans.append(time.perf_counter() - began)
    print_span(min(spans))
    await broker.stop()


async def latency(url: str, queue_name: str, count: int) -> None:
    """One request at a time."""
    broker = RabbitBroker(url, logger=None)

    @broker.subscriber(_queue(queue_name), channel=Channel(prefetch_count=PREFETCH))
    async def answer(order: Order) -> Order:
        return order

    await broker.start()
    await broker.request(ORDER, queue_name, timeout=30.0)
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        Order.model_validate_json((await broker.request(ORDER, queue_name, timeout=30.0)).body)
        seconds.append(time.perf_counter() - began)
    print_latencies(seconds)
    await broker.stop()

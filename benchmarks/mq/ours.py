"""msgbus: a whole Bus, over the wire that `client` names."""

from __future__ import annotations

import asyncio
import time

from benchmarks.mq.payload import BATCH, HEADERS, ORDER, PREFETCH, Order
from benchmarks.mq.timing import Stretch, print_latencies, print_span
from msgbus import Bus, Queue, Rpc
from msgbus.config import Settings
from msgbus.options import Limits


def _bus(client: str, url: str) -> Bus:
    return Bus(settings=Settings(url=f"{url}?client={client}", provision="create", routes={}))


async def consume(client: str, url: str, queue_name: str, count: int) -> None:
    """Receive, validate, await the handler, ack: everything that a service does."""
    bus, stretch, left, done = _bus(client, url), Stretch(count), count, asyncio.Event()

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


async def publish(client: str, url: str, queue_name: str, count: int) -> None:
    """`send_many` of a hundred, each confirmed."""
    bus, queue, stretch = _bus(client, url), Queue(queue_name, Order), Stretch(count)
    async with bus:
        batch = [ORDER] * BATCH
        await bus.send(queue, ORDER, headers=HEADERS)
        stretch.begin()
        for _ in range(count // BATCH):
            await bus.publish_many(queue, batch, headers=HEADERS)
        stretch.end()


async def gather(client: str, url: str, queue_name: str, count: int) -> None:
    """A hundred tasks that publish one message each, as raw aio-pika's twin does."""
    bus, queue, stretch = _bus(client, url), Queue(queue_name, Order), Stretch(count)
    async with bus:
        await bus.send(queue, ORDER, headers=HEADERS)
        stretch.begin()
        for _ in range(count // BATCH):
            await asyncio.gather(*(bus.send(queue, ORDER, headers=HEADERS) for _ in range(BATCH)))
        stretch.end()


async def calls(client: str, url: str, queue_name: str, count: int) -> None:
    """50 concurrent requests to a handler of 50 ms; the best of `count` tries."""
    bus, rpc = _bus(client, url), Rpc(queue_name, Order, Order)

    @bus.responder(rpc, limits=Limits(concurrency=50))
    async def answer(order: Order) -> Order:
        await asyncio.sleep(0.05)
        return order

    async with bus.consuming():
        spans = []
        for _ in range(count):
            began = time.perf_counter()
            await asyncio.gather(*(bus.request(rpc, ORDER, timeout=30.0) for _ in range(50)))
            spans.append(time.perf_counter() - began)
        print_span(min(spans))


async def latency(client: str, url: str, queue_name: str, count: int) -> None:
    """One request at a time."""
    bus, rpc = _bus(client, url), Rpc(queue_name, Order, Order)

    @bus.responder(rpc)
    async def answer(order: Order) -> Order:
        return order

    async with bus.consuming():
        await bus.request(rpc, ORDER, timeout=30.0)
        seconds = []
        for _ in range(count):
            began = time.perf_counter()
            await bus.request(rpc, ORDER, timeout=30.0)
            seconds.append(time.perf_counter() - began)
        print_latencies(seconds)

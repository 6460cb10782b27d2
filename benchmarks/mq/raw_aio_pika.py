"""Raw aio-pika as its documentation shows it: prefetch 200, one awaited ack per message, pipelined confirms."""

from __future__ import annotations

import asyncio
import time
import uuid

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from benchmarks.mq.payload import BATCH, BODY, HEADERS, PREFETCH, Order
from benchmarks.mq.timing import Stretch, print_latencies, print_span


async def handle(order: Order) -> None:
    """What is done with an order: nothing."""


async def consume(url: str, queue_name: str, count: int) -> None:
    """Receive, validate, await the handler, ack."""
    stretch, left, done = Stretch(count), count, asyncio.Event()
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.get_queue(queue_name)

        async def on_message(message: AbstractIncomingMessage) -> None:
            nonlocal left
            await handle(Order.model_validate_json(message.body))
            await message.ack()
            left -= 1
            if not left:
                done.set()

        stretch.begin()
        await queue.consume(on_message)
        await done.wait()
        stretch.end()


async def publish(url: str, queue_name: str, count: int) -> None:
    """Publish in gathered hundreds, each confirmed."""
    stretch = Stretch(count)
    async with await aio_pika.connect(url) as connection:
        exchange = (await connection.channel()).default_exchange

        def one() -> asyncio.Future[object]:
            message = aio_pika.Message(
                BODY,
                headers=dict(HEADERS),
                content_type="application/json",
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                message_id=str(uuid.uuid4()),
            )
            return asyncio.ensure_future(exchange.publish(message, queue_name))

        stretch.begin()
        for _ in range(count // BATCH):
            await asyncio.gather(*(one() for _ in range(BATCH)))
        stretch.end()


gather = publish  # it has nothing that sends a batch


class Caller:
    """Requests over one direct reply-to consumer and a table of who waits for what."""

    def __init__(self, channel: aio_pika.abc.AbstractChannel, queue_name: str) -> None:
        self._channel = channel
        self._queue_name = queue_name
        self._waiting: dict[str, asyncio.Future[bytes]] = {}

    async def open(self) -> None:
        """Listen for replies."""
        queue = await self._channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
        await queue.consume(self._reply, no_ack=True)

    async def _reply(self, message: AbstractIncomingMessage) -> None:
        self._waiting.pop(message.correlation_id or "").set_result(message.body)

    async def request(self, body: bytes) -> Order:
        """One request and its reply, validated."""
        correlation = str(uuid.uuid4())
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[correlation] = reply
        message = aio_pika.Message(body, correlation_id=correlation, reply_to="amq.rabbitmq.reply-to")
        await self._channel.default_exchange.publish(message, self._queue_name)
        return Order.model_validate_json(await reply)


async def _respond(connection: aio_pika.abc.AbstractConnection, queue_name: str, seconds: float) -> None:
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=PREFETCH)
    queue = await channel.get_queue(queue_name)

    async def on_message(message: AbstractIncomingMessage) -> None:
        order = Order.model_validate_json(message.body)
        if seconds:
            await asyncio.sleep(seconds)
        reply = aio_pika.Message(order.model_dump_json().encode(), correlation_id=message.correlation_id)
        await channel.default_exchange.publish(reply, message.reply_to or "", mandatory=False)
        await message.ack()

    await queue.consume(on_message)


async def calls(url: str, queue_name: str, count: int) -> None:
    """50 concurrent requests to a handler of 50 ms; the best of `count` tries."""
    async with await aio_pika.connect(url) as connection:
        await _respond(connection, queue_name, 0.05)
        caller = Caller(await connection.channel(), queue_name)
        await caller.open()
        spans = []
        for _ in range(count):
            began = time.perf_counter()
            await asyncio.gather(*(caller.request(BODY) for _ in range(50)))
            spans.append(time.perf_counter() - began)
        print_span(min(spans))


async def latency(url: str, queue_name: str, count: int) -> None:
    """One request at a time."""
    async with await aio_pika.connect(url) as connection:
        await _respond(connection, queue_name, 0.0)
        caller = Caller(await connection.channel(), queue_name)
        await caller.open()
        seconds = []
        for _ in range(count):
            began = time.perf_counter()
            await caller.request(BODY)
            seconds.append(time.perf_counter() - began)
        print_latencies(seconds)

"""Services that know nothing of msgbus, over the same RabbitMQ: FastStream and plain aio-pika, both ways."""

from __future__ import annotations

import asyncio
from typing import Any

import aio_pika
import pytest
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue
from pydantic import BaseModel
from tests.servers import Handle

from msgbus import Bus, Message, Queue, Rpc, Topic


class Order(BaseModel):
    """What both sides know."""

    order_id: str
    total: float = 1.5


class Quote(BaseModel):
    """A reply."""

    price: float


def bus_on(rabbitmq: Handle, client: str) -> Bus:
    """A bus on one of the wires."""
    return Bus(f"{rabbitmq.url}?client={client}")


async def test_faststream_publishes_and_msgbus_consumes(rabbitmq: Handle, client: str, name: str) -> None:
    bus, got = bus_on(rabbitmq, client), asyncio.Queue[Message[Order]]()

    @bus.consumer(Queue(name, Order))
    async def handle(message: Message[Order]) -> None:
        got.put_nowait(message)

    async with bus.consuming(), RabbitBroker(rabbitmq.url, logger=None) as broker:
        await broker.publish(Order(order_id="1"), name, headers={"source": "faststream"}, correlation_id="c-1")
        message = await got.get()
        assert message.payload == Order(order_id="1")
        assert (message.headers["source"], message.correlation_id) == ("faststream", "c-1")


async def test_msgbus_publishes_and_faststream_consumes(rabbitmq: Handle, client: str, name: str) -> None:
    topic, got = Topic(f"{name}.orders", Order), asyncio.Queue[tuple[Order, str]]()
    broker = RabbitBroker(rabbitmq.url, logger=None)

    @broker.subscriber(
        RabbitQueue(name, durable=False, auto_delete=True, routing_key="#"),
        RabbitExchange(topic.name, type=ExchangeType.TOPIC, durable=True),
    )
    async def handle(order: Order) -> None:
        got.put_nowait((order, ""))

    bus = bus_on(rabbitmq, client)

    @bus.subscriber(topic, group="ours")
    async def also(order: Order) -> None:
        got.put_nowait((order, "ours"))

    async with bus.consuming(), broker:
        await broker.start()
        await bus.publish(topic, Order(order_id="2"))
        both = [await got.get(), await got.get()]
        assert sorted(who for _, who in both) == ["", "ours"]
        assert {order.order_id for order, _ in both} == {"2"}


async def test_faststream_asks_and_msgbus_answers(rabbitmq: Handle, client: str, name: str) -> None:
    bus = bus_on(rabbitmq, client)

    @bus.responder(Rpc(name, Order, Quote))
    async def answer(order: Order) -> Quote:
        return Quote(price=order.total * 2)

    async with bus.consuming(), RabbitBroker(rabbitmq.url, logger=None) as broker:
        reply = await broker.request(Order(order_id="3", total=4.0), name, timeout=10.0)
        assert Quote.model_validate_json(reply.body) == Quote(price=8.0)


async def test_msgbus_asks_and_faststream_answers(rabbitmq: Handle, client: str, name: str) -> None:
    broker = RabbitBroker(rabbitmq.url, logger=None)

    @broker.subscriber(RabbitQueue(name, durable=False, auto_delete=True))
    async def answer(order: Order) -> Quote:
        return Quote(price=order.total * 3)

    bus = bus_on(rabbitmq, client)
    async with broker:
        await broker.start()
        async with bus:
            quote = await bus.request(Rpc(name, Order, Quote), Order(order_id="4", total=4.0), timeout=10.0)
            assert quote == Quote(price=12.0)


async def test_aio_pika_publishes_bare_bytes_and_gets_what_msgbus_sends(
    rabbitmq: Handle, client: str, name: str
) -> None:
    """No header, no property, no delivery mode."""
    bus, queue, got = bus_on(rabbitmq, client), Queue(name, Order), asyncio.Queue[Message[Order]]()

    @bus.consumer(queue)
    async def handle(message: Message[Order]) -> None:
        got.put_nowait(message)

    async with await aio_pika.connect(rabbitmq.url) as connection:
        channel = await connection.channel()
        async with bus.consuming():
            await channel.default_exchange.publish(aio_pika.Message(b'{"order_id": "5"}'), name)
            message = await got.get()
            assert (message.payload, message.type, message.attempt) == (Order(order_id="5"), "", 1)
        async with bus:
            await bus.send(queue, Order(order_id="6"), headers={"source": "msgbus"})
        plain = await channel.get_queue(name)
        received = await plain.get(timeout=10)
        assert received is not None
        assert Order.model_validate_json(received.body).order_id == "6"
        assert (received.content_type, received.headers["source"]) == ("application/json", "msgbus")
        assert received.message_id
        assert received.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
        await received.ack()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (True, "true"),
        (None, None),
        (1.5, "1.5"),
        (bytearray(b"raw"), "raw"),
        (["a", 1], '["a", 1]'),
        ({"k": 2}, '{"k": 2}'),
    ],
)
async def test_headers_that_are_no_text_are_readable(
    rabbitmq: Handle, client: str, name: str, value: object, text: str | None
) -> None:
    bus, got = bus_on(rabbitmq, client), asyncio.Queue[Message[Order]]()

    @bus.consumer(Queue(name, Order))
    async def handle(message: Message[Order]) -> None:
        got.put_nowait(message)

    async with await aio_pika.connect(rabbitmq.url) as connection, bus.consuming():
        channel = await connection.channel()
        message = aio_pika.Message(b'{"order_id": "8"}', headers={"x": value})  # type: ignore[dict-item]
        await channel.default_exchange.publish(message, name)
        assert (await got.get()).headers.get("x") == text


async def test_a_binary_body_says_so_as_kombu_needs_it(rabbitmq: Handle, client: str, name: str) -> None:
    """Else kombu reads it as UTF-8. Text and JSON say nothing: that is what it takes them for."""
    bus, got = bus_on(rabbitmq, client), asyncio.Queue[bytes]()
    queues: list[tuple[Queue[Any], Any, str | None]] = [
        (Queue(f"{name}.bytes", bytes), b"\xff\x00", "binary"),
        (Queue(f"{name}.text", str), "text", None),
        (Queue(f"{name}.json", Order), Order(order_id="9"), None),
    ]

    @bus.consumer(queues[0][0])
    async def handle(body: bytes) -> None:
        got.put_nowait(body)

    for queue, _, _ in queues[1:]:
        bus.consumer(queue)(lambda payload: asyncio.sleep(0))
    async with bus.consuming():
        await bus.send(queues[0][0], b"\xff\x00")
        assert await got.get() == b"\xff\x00"
    async with bus, await aio_pika.connect(rabbitmq.url) as connection:
        channel = await connection.channel()
        for queue, payload, encoding in queues:
            await bus.send(queue, payload)
            received = await (await channel.get_queue(queue.name)).get(timeout=10)
            assert received is not None
            assert received.content_encoding == encoding
            await received.ack()

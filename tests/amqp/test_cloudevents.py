"""Events of the CloudEvents SDK over RabbitMQ, both ways: its bindings for AMQP 0-9-1 and AMQP 1.0, and structured."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage
from cloudevents.core.bindings import amqp as amqp_1_0
from cloudevents.core.bindings import rabbitmq as amqp_0_9_1
from cloudevents.core.v1.event import CloudEvent
from pydantic import BaseModel
from tests.servers import Handle
from tests.slowness import slowness

from msgbus import Bus, Message, Queue
from msgbus.message import Receipt

EVENTS = 100
ODD = ("", "grüß", "\U0001f600", "a b\tc", "x" * 300, "%41", "ce-", "cloudEvents_id")


class Order(BaseModel):
    """What both sides know."""

    number: int
    note: str = ""


def bus_on(server: Handle, client: str) -> Bus:
    return Bus(f"{server.url}?client={client}")


@asynccontextmanager
async def foreign(
    server: Handle, name: str
) -> AsyncIterator[tuple[aio_pika.abc.AbstractExchange, aio_pika.abc.AbstractQueue]]:
    """A plain aio-pika channel's default exchange, and the queue."""
    connection = await aio_pika.connect(server.url)
    try:
        channel = await connection.channel()
        yield channel.default_exchange, await channel.get_queue(name)
    finally:
        await connection.close()


def event(number: int) -> CloudEvent:
    """One with every attribute that there is, and extensions."""
    note = ODD[number % len(ODD)]
    return CloudEvent(
        attributes={
            "id": f"e{number}",
            "source": "/others",
            "type": "com.example.Order",
            "specversion": "1.0",
            "time": datetime(2026, 11, 27, 8, 0, number % 60, tzinfo=UTC),
            "subject": f"order {number}",
            "datacontenttype": "application/json",
            "dataschema": "https://example.com/order",
            "partitionkey": f"k{number % 3}",
            "note": note or "none",
        },
        data={"number": number, "note": note},
    )


def message_of(kind: str, made: CloudEvent) -> aio_pika.Message:
    """As a program writes it that has the SDK and aio-pika."""
    if kind == "AMQP 1.0":  # what a bridge makes of an AMQP 1.0 message: application properties are headers
        of_amqp = amqp_1_0.to_binary_event(made)
        headers: Mapping[str, Any] = {
            name: value.isoformat() if isinstance(value, datetime) else str(value)
            for name, value in of_amqp.application_properties.items()
        }
        return aio_pika.Message(of_amqp.application_data, headers={**headers}, content_type="application/json")
    if kind == "colon":
        of_amqp = amqp_1_0.to_binary_event(made)
        headers = {
            name.replace("cloudEvents_", "cloudEvents:"): str(v) for name, v in of_amqp.application_properties.items()
        }
        return aio_pika.Message(of_amqp.application_data, headers={**headers}, content_type="application/json")
    to = amqp_0_9_1.to_structured_event if kind == "structured" else amqp_0_9_1.to_binary_event
    written = to(made)
    return aio_pika.Message(written.body, headers={**written.headers}, content_type=written.content_type)


@pytest.mark.parametrize("kind", ["binary", "structured", "AMQP 1.0", "colon"])
async def test_events_of_the_sdk_are_handled(rabbitmq: Handle, client: str, name: str, kind: str) -> None:
    bus, seen, all_came = bus_on(rabbitmq, client), dict[str, Message[Order]](), asyncio.Event()

    @bus.consumer(Queue(name, Order))
    async def handle(message: Message[Order]) -> None:
        seen[message.id] = message
        if len(seen) == EVENTS:
            all_came.set()

    async with bus.consuming(), foreign(rabbitmq, name) as (exchange, _):
        for number in range(EVENTS):
            await exchange.publish(message_of(kind, event(number)), name)
        async with asyncio.timeout(30.0 * slowness()):
            await all_came.wait()
    for number in range(EVENTS):
        message, attributes = seen[f"e{number}"], event(number).get_attributes()
        assert message.payload == Order(number=number, note=ODD[number % len(ODD)])
        assert (message.type, message.key, message.headers["ce-source"]) == (
            "com.example.Order",
            f"k{number % 3}",
            "/others",
        )
        for attribute in ("subject", "dataschema", "note", "specversion"):
            assert message.headers[f"ce-{attribute}"] == attributes[attribute]
        time = message.headers["ce-time"]
        if kind != "colon" and not time.isdecimal():
            assert datetime.fromisoformat(time) == attributes["time"]


async def test_what_is_published_are_events_of_the_sdk(rabbitmq: Handle, client: str, name: str) -> None:
    bus, queue = bus_on(rabbitmq, client), Queue(name, Order, key="note")
    bus.consumer(queue)(_ignore)
    async with bus.consuming():
        pass  # the queue is made
    orders = [Order(number=number, note=ODD[number % len(ODD)] or "none") for number in range(EVENTS)]
    async with bus, foreign(rabbitmq, name) as (_, place):
        receipts = await bus.publish_many(queue, orders, headers={"ce-subject": "s", "mine": "grüß"})
        got = await _take(place, EVENTS)
    by_id = {each.message_id: each for each in got}
    for order, receipt in zip(orders, receipts, strict=True):
        _check(by_id[receipt.id], receipt, order)


def _check(came: AbstractIncomingMessage, receipt: Receipt, order: Order) -> None:
    headers = {key: str(value) for key, value in came.headers.items()}
    read = amqp_0_9_1.from_rabbitmq_event(amqp_0_9_1.RabbitMQMessage(headers, came.content_type, came.body))
    attributes = read.get_attributes()
    assert (attributes["id"], attributes["type"], attributes["source"]) == (receipt.id, "Order", "msgbus")
    assert (attributes["specversion"], attributes["subject"]) == ("1.0", "s")
    assert attributes["partitionkey"] == order.note
    assert abs((datetime.now(UTC) - attributes["time"]).total_seconds()) < 3600
    assert read.get_data() == order.model_dump()
    assert (came.message_id, came.type, came.headers["mine"]) == (receipt.id, "Order", "grüß"), "and natively"


async def _ignore(order: Order) -> None: ...


async def _take(place: aio_pika.abc.AbstractQueue, count: int) -> Sequence[AbstractIncomingMessage]:
    got = []
    async with asyncio.timeout(30.0 * slowness()), place.iterator() as messages:
        async for message in messages:
            await message.ack()
            got.append(message)
            if len(got) == count:
                break
    return got


async def test_a_body_of_the_sdk_needs_no_content_type(rabbitmq: Handle, client: str, name: str) -> None:
    """A structured event in a message that says nothing about its body."""
    bus, came = bus_on(rabbitmq, client), asyncio.Queue[Message[Order]]()

    @bus.consumer(Queue(name, Order))
    async def handle(message: Message[Order]) -> None:
        came.put_nowait(message)

    async with bus.consuming(), foreign(rabbitmq, name) as (exchange, _):
        body = amqp_0_9_1.to_structured_event(event(7)).body
        for written in (body, json.dumps(json.loads(body), indent=2, sort_keys=True).encode()):
            await exchange.publish(aio_pika.Message(written), name)
            async with asyncio.timeout(30.0 * slowness()):
                message = await came.get()
            assert (message.id, message.type, message.payload.number) == ("e7", "com.example.Order", 7)

"""CloudEvents over STOMP: of the SDK through stomp.py, of a JMS program, and ours as both of them read it."""

from __future__ import annotations

import asyncio
import queue as blocking
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from urllib.parse import unquote, urlsplit

import pytest
import stomp
from cloudevents.core.bindings import rabbitmq as binding
from cloudevents.core.v1.event import CloudEvent
from pydantic import BaseModel
from tests.servers import Handle
from tests.slowness import slowness
from tests.stomp.flow import a_bus
from tests.stomp.jms import Peer

from msgbus import Bus, Message, Queue

EVENTS = 100
NOTES = ("plain", "grüß", "\U0001f600", "a: b\tc\\n", "x" * 300, "%41", "ce-", "cloudEvents_id")
PATIENCE = 30.0 * slowness()


class Order(BaseModel):
    """What both sides know."""

    number: int
    note: str = ""


@pytest.fixture(params=["activemq", "rabbitmq"])
def server(request: pytest.FixtureRequest) -> str:
    """Of either kind, its STOMP URL."""
    handle: Handle = request.getfixturevalue(request.param)
    return handle.url_of("stomp")


def place(url: str, name: str) -> str:
    """A queue that is there: RabbitMQ would declare `/queue/NAME` otherwise than ours are."""
    return f"/amq/queue/{name}" if urlsplit(url).username else f"/queue/{name}"


@contextmanager
def foreign(url: str) -> Iterator[stomp.Connection12]:
    """A connection of stomp.py, which leaves bodies as they are."""
    at = urlsplit(url)
    connection = stomp.Connection12([(at.hostname, at.port)], vhost="/", auto_decode=False)
    connection.connect(unquote(at.username or ""), unquote(at.password or ""), wait=True)
    try:
        yield connection
    finally:
        connection.disconnect()


def event(number: int, **more: str) -> CloudEvent:
    """One with attributes of all kinds, and an extension."""
    return CloudEvent(
        attributes={
            "id": f"e{number}",
            "source": "/others",
            "type": "com.example.Order",
            "specversion": "1.0",
            "subject": f"order {number}",
            "datacontenttype": "application/json",
            "partitionkey": f"k{number % 3}",
            "time": datetime(2026, 11, 27, 8, 0, number % 60, tzinfo=UTC),
            "mark": "an extension",
            **more,
        },
        data={"number": number, "note": NOTES[number % len(NOTES)]},
    )


def reading(url: str, name: str) -> tuple[Bus, asyncio.Queue[Message[Order]]]:
    """A bus that reads a queue, and what came."""
    bus, came = a_bus(url, ""), asyncio.Queue[Message[Order]]()

    @bus.consumer(Queue(name, Order))
    async def handle(message: Message[Order]) -> None:
        came.put_nowait(message)

    return bus, came


async def take(came: asyncio.Queue[Message[Order]], count: int) -> dict[str, Message[Order]]:
    async with asyncio.timeout(PATIENCE):
        messages = [await came.get() for _ in range(count)]
    return {message.id: message for message in messages}


@pytest.mark.parametrize("mode", ["binary", "structured"])
async def test_events_of_the_sdk_are_handled(server: str, name: str, mode: str) -> None:
    bus, came = reading(server, name)
    write = binding.to_binary_event if mode == "binary" else binding.to_structured_event
    async with bus.consuming():
        with foreign(server) as connection:
            for number in range(EVENTS):
                written = write(event(number))
                headers = {each: str(value) for each, value in written.headers.items()}
                headers["content-type"] = written.content_type or ""
                connection.send(place(server, name), written.body, headers=headers)
            seen = await take(came, EVENTS)
    for number in range(EVENTS):
        message = seen[f"e{number}"]
        assert message.payload == Order(number=number, note=NOTES[number % len(NOTES)])
        assert (message.type, message.key) == ("com.example.Order", f"k{number % 3}")
        assert datetime.fromisoformat(message.headers["ce-time"]) == event(number).get_time()
        assert (message.headers["ce-subject"], message.headers["ce-mark"]) == (f"order {number}", "an extension")


@pytest.mark.parametrize("expired", ["2020-01-01T00:00:00Z", "2020-01-01t01:00:00+01:00", "1577836800"])
async def test_an_event_that_has_expired_is_not_handled(server: str, name: str, expired: str) -> None:
    bus, came = reading(server, name)
    async with bus.consuming():
        with foreign(server) as connection:
            for number, until in enumerate((expired, "2999-01-01T00:00:00Z", expired, "32472144000")):
                headers = {"ce-specversion": "1.0", "ce-id": f"e{number}", "ce-source": "/o", "ce-type": "Order"}
                headers |= {"ce-expirytime": until, "content-type": "application/json"}
                connection.send(place(server, name), f'{{"number": {number}}}', headers=headers)
            assert sorted(await take(came, 2)) == ["e1", "e3"]
    assert came.empty()


async def test_what_is_published_are_events_of_the_sdk(server: str, name: str) -> None:
    queue = Queue(name, Order, key="note")
    bus, _ = reading(server, name)
    async with bus.consuming():
        pass  # the queue is made
    frames: blocking.Queue[tuple[Mapping[str, str], bytes]] = blocking.Queue()

    class Listener(stomp.ConnectionListener):  # type: ignore[misc]
        def on_message(self, frame: stomp.utils.Frame) -> None:
            frames.put((frame.headers, frame.body))

    orders = {number: Order(number=number, note=NOTES[number % len(NOTES)]) for number in range(EVENTS)}
    async with bus:
        receipts = await bus.publish_many(queue, [*orders.values()], headers={"ce-subject": "s", "mine": "grüß"})
    with foreign(server) as connection:
        connection.set_listener("", Listener())
        connection.subscribe(place(server, name), "1", ack="auto")
        got = [await asyncio.to_thread(frames.get, timeout=PATIENCE) for _ in orders]
    ids = set()
    for headers, body in got:
        message = binding.RabbitMQMessage({**headers}, headers["content-type"], body)
        attributes = binding.from_rabbitmq_event(message).get_attributes()
        order = Order.model_validate_json(body)
        assert order == orders[order.number]
        assert (attributes["type"], attributes["source"], attributes["subject"]) == ("Order", "msgbus", "s")
        assert (attributes["partitionkey"], headers["type"], headers["mine"]) == (order.note, "Order", "grüß")
        ids.add(attributes["id"])
    assert ids == {receipt.id for receipt in receipts}


async def test_a_jms_program_writes_names_that_jms_allows(activemq: Handle, peer: Peer, name: str) -> None:
    """And reads ours: JMSType and `ce-type`."""
    url = activemq.url_of("stomp")
    bus, came = reading(url, name)
    names = ("specversion", "id", "source", "type", "partitionkey", "mark")
    async with bus.consuming():
        for number in range(EVENTS):
            attributes = {each: str(event(number).get_attributes()[each]) for each in names}
            body = Order(number=number, note=NOTES[number % len(NOTES)]).model_dump_json()
            peer.send(name, "text", body=body, **{f"property_ce_{each}": text for each, text in attributes.items()})
        seen = await take(came, EVENTS)
    for number in range(EVENTS):
        message = seen[f"e{number}"]
        assert message.payload == Order(number=number, note=NOTES[number % len(NOTES)])
        assert (message.type, message.key, message.headers["ce-mark"]) == (
            "com.example.Order",
            f"k{number % 3}",
            "an extension",
        )
    async with bus:
        receipt = await bus.send(Queue(name, Order), Order(number=7))
        told = await asyncio.to_thread(peer.run, do="receive", queue=name, selector="JMSType = 'Order'")
    assert (told["property.ce-id"], told["type"], told["property.ce-type"]) == (receipt.id, "Order", "Order")

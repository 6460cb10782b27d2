"""MapMessages of a JMS program are JSON here, and MapMessages again where they are copied."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urlsplit

import pytest
import stomp
from pydantic import Base64Bytes, BaseModel
from tests.servers import Handle
from tests.slowness import slowness
from tests.stomp.flow import a_bus
from tests.stomp.jms import Peer

from msgbus import Bus, Message, Queue, Retry, Rpc
from msgbus.brokers.stomp.properties import Arrived
from msgbus.dead import DeadLetters
from msgbus.errors import RemoteError

TEXTS = (
    *("plain", "grüß", "007", "1e5", "true", "null", "", " a\t\n b ", "\r\n", "<a>&amp;]]>", "\\ \"'", "\u2400"),
    *("x" * 70_000, "<!DOCTYPE a [<!ENTITY b 'c'>]>"),
)
PATIENCE = 30.0 * slowness()


class Entry(BaseModel):
    """What the peer puts into a map."""

    key: str
    number: int
    price: float
    open: bool
    raw: Base64Bytes = b""


def reading(url: str, queue: Queue[Entry], failing: int = 0) -> tuple[Bus, asyncio.Queue[Message[Entry]]]:
    """A bus that reads a queue, and what came. The first `failing` starts for "007" fail."""
    bus, came = a_bus(url, ""), asyncio.Queue[Message[Entry]]()

    @bus.consumer(queue, retry=Retry(attempts=2, first_delay=0.01))
    async def handle(message: Message[Entry]) -> None:
        nonlocal failing
        if message.payload.key == "007" and failing:
            failing -= 1
            raise LookupError("not now")
        came.put_nowait(message)

    return bus, came


async def take(came: asyncio.Queue[Message[Entry]], count: int = 1) -> list[Message[Entry]]:
    async with asyncio.timeout(PATIENCE):
        return [await came.get() for _ in range(count)]


async def test_maps_are_json(url: str, peer: Peer, name: str) -> None:
    """Strings that look like numbers stay strings; ids are the server's."""
    bus, came = reading(url, Queue(name, Entry))
    async with bus.consuming():
        more = {"priority": "7", "property_colour": "red"}
        ids = [peer.send(name, "bytes in a map", body=text, **more) for text in TEXTS * 9]
        messages = await take(came, len(ids))
    assert [message.payload for message in messages] == [
        Entry(key=text, number=7, price=1.5, open=True, raw=b"AAH/") for text in TEXTS * 9
    ]
    assert [message.id for message in messages] == ids
    assert {(each.headers["colour"], each.headers["JMSPriority"]) for each in messages} == {("red", "7")}


async def test_one_that_can_not_be_shown_is_kept_whole_among_others(url: str, peer: Peer, name: str) -> None:
    """Of emoji ActiveMQ keeps U+FFFD alone; an ObjectMessage ends the connection that looks. Neighbours see nothing."""
    bus, came = reading(url, Queue(name, Entry))
    async with bus.consuming():
        for number in range(5):
            peer.send(name, "map", body=str(number))
        peer.send(name, "map", body="\U0001f600", property_mark=name)
        peer.send(name, "object", body="precious", property_mark=name)
        for number in range(5, 10):
            peer.send(name, "map", body=str(number))
        assert [each.payload.key for each in await take(came, 10)] == [*map(str, range(10))]
        dead = [
            await asyncio.to_thread(peer.run, do="receive", queue="ActiveMQ.DLQ", selector=f"mark = '{name}'")
            for _ in range(2)
        ]
        assert bus.health().problems == ()
    assert (dead[0]["map"], dead[0]["map.number"]) == ("\ufffd\ufffd", "Integer 7"), "as any Java program reads it"
    assert "object" in dead[1]


@pytest.mark.parametrize("kind", ["map", "bytes in a map"])
async def test_a_retry_is_the_map_again(url: str, peer: Peer, name: str, kind: str) -> None:
    bus, came = reading(url, Queue(name, Entry), failing=1)
    async with bus.consuming():
        peer.send(name, kind, body="007", property_colour="red")
        (message,) = await take(came)
    assert (message.payload.key, message.attempt) == ("007", 2)
    assert message.payload.raw == (b"" if kind == "map" else b"\0\x01\xff")
    assert message.headers["colour"] == "red"


async def test_a_dead_letter_is_the_map_with_its_types(url: str, peer: Peer, name: str) -> None:
    bus, came = reading(url, Queue(name, Entry), failing=2)
    async with bus.consuming():
        peer.send(name, "map", body="007", property_colour="red")
        peer.send(name, "map", body="after")
        (message,) = await take(came)
        assert message.payload.key == "after"
        told = await asyncio.to_thread(peer.run, do="receive", queue=f"DLQ.{name}")
    assert {each: value for each, value in told.items() if each.startswith("map.")} == {
        "map.key": "String 007",
        "map.number": "Integer 7",
        "map.price": "Double 1.5",
        "map.open": "Boolean true",
    }
    assert (told["property.colour"], told["property.msgbus-error-type"]) == ("red", "LookupError")


async def test_bytes_in_a_dead_map_are_there_as_xml(url: str, peer: Peer, name: str) -> None:
    """XStream makes no byte[] again, by its own list of classes: the map stays text, and is read here as ever."""
    bus, came = reading(url, Queue(name, Entry), failing=2)
    async with bus.consuming():
        peer.send(name, "bytes in a map", body="007")
        peer.send(name, "map", body="after")
        await take(came)
        (letter,) = await DeadLetters(bus, name).peek()
        told = await asyncio.to_thread(peer.run, do="receive", queue=f"DLQ.{name}")
    assert json.loads(letter.body) == {"key": "007", "number": 7, "price": 1.5, "open": True, "raw": "AAH/"}
    assert "<string>raw</string>" in told["text"]
    assert "<byte-array>AAH/</byte-array>" in told["text"]


async def test_dead_maps_are_shown_and_sent_back(url: str, peer: Peer, name: str) -> None:
    bus, came = reading(url, Queue(name, Entry), failing=2)
    async with bus.consuming():
        message_id = peer.send(name, "map", body="007")
        peer.send(name, "map", body="after")
        await take(came)  # by now the first one is dead
        (letter,) = await DeadLetters(bus, name).peek()
        assert (letter.id, json.loads(letter.body)["key"]) == (message_id, "007")
        assert (await DeadLetters(bus, name).redrive()).moved == 1
        (message,) = await take(came)
    assert message.payload.key == "007"
    assert isinstance(message.raw, Arrived)
    assert message.raw.shown.startswith(b"<map>"), "it is a map again"


async def test_a_stomp_client_that_sends_nothing_is_handled(url: str, activemq: Handle, name: str) -> None:
    """It has no body and no content-length, as many clients write it; after a retry too."""
    bus, came, failing = a_bus(url, ""), asyncio.Queue[Message[bytes]](), 1

    @bus.consumer(Queue(name, bytes), retry=Retry(attempts=2, first_delay=0.01))
    async def handle(message: Message[bytes]) -> None:
        nonlocal failing
        failing -= 1
        if failing >= 0:
            raise LookupError("not now")
        came.put_nowait(message)

    server = urlsplit(activemq.url_of("stomp"))
    async with bus.consuming():
        connection = stomp.Connection12([(server.hostname, server.port)])
        connection.connect(wait=True)
        for number in range(2):
            connection.send(f"/queue/{name}", "", number=str(number))
        async with asyncio.timeout(PATIENCE):
            messages = [await came.get() for _ in range(2)]
        connection.disconnect()
    assert {(message.payload, message.headers["number"]) for message in messages} == {(b"", "0"), (b"", "1")}


async def test_a_reply_that_can_not_be_read_is_told_at_once(url: str, peer: Peer, name: str) -> None:
    bus, _ = reading(url, Queue(name, Entry))
    async with bus.consuming():
        pass  # the queue is made
    async with bus:
        answering = asyncio.ensure_future(
            asyncio.to_thread(peer.run, do="respond", queue=name, kind="stream", body="lost")
        )
        with pytest.raises(RemoteError, match="a Stream or Object message"):
            await bus.request(Rpc(name, str, str), "hello", timeout=PATIENCE)
        await answering

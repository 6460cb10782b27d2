"""With plain stomp.py at the other end, and with what only one server has."""

from __future__ import annotations

import asyncio
import queue
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import stomp
from tests.servers import Handle, Server
from tests.stomp.flow import Item, a_bus
from tests.stomp.secure import activemq_with

from msgbus import Message, Queue, Rpc, Topic, brokers
from msgbus.broker import Binding, Part, QueueSpec, TopicSpec
from msgbus.brokers.stomp import StompBroker, StompOptions
from msgbus.clock import SystemClock
from msgbus.errors import Refused, Unavailable
from msgbus.message import Act, Address, Outgoing, Receipt, Settlement, Source
from msgbus.options import SendOptions


class Foreign:
    """A program that knows stomp.py and nothing of msgbus."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.connection: Any = stomp.Connection12(
            [(parts.hostname, parts.port)], vhost="/", auto_decode=False, auto_content_length=False
        )
        self.connection.set_listener("foreign", self)
        self._frames: queue.Queue[Any] = queue.Queue()
        self.connection.connect(parts.username, parts.password, wait=True)

    def on_message(self, frame: Any) -> None:
        self._frames.put(frame)

    def next(self) -> Any:
        """The next message."""
        return self._frames.get(timeout=10.0)


@pytest.fixture
def foreign(activemq: Handle) -> Iterator[Foreign]:
    program = Foreign(activemq.url_of("stomp"))
    yield program
    program.connection.disconnect()


@pytest.fixture
async def broker(activemq: Handle) -> AsyncIterator[StompBroker]:
    broker = StompBroker(activemq.url_of("stomp"), clock=SystemClock())
    await broker.connect()
    yield broker
    await broker.close()


def _name() -> str:
    return f"i{uuid.uuid4().hex[:10]}"


async def _declare(broker: StompBroker, source: Source) -> Source:
    parts: list[Part] = [QueueSpec(source)]
    if source.kind == "topic":
        parts = [TopicSpec(source.name), *parts, Binding(source.name, source)]
    await broker.admin.ensure(parts, "create")
    return source


async def test_a_foreign_producer_is_handled(activemq: Handle, foreign: Foreign) -> None:
    bus, name, seen = a_bus(activemq.url_of("stomp"), ""), _name(), []
    got: queue.Queue[Message[Item]] = queue.Queue()

    @bus.consumer(Queue(name, Item))
    async def handle(message: Message[Item]) -> None:
        seen.append(message)
        got.put(message)

    async with bus.consuming():
        headers = {"correlation-id": "c:1", "type": "Item", "own": "värde"}
        foreign.connection.send(f"/queue/{name}", '{"key": "a", "number": 1}', headers=headers)
        foreign.connection.send(f"/queue/{name}", b'{"key": "b", "number": 2}', content_type="application/json")
        first, second = [await asyncio.to_thread(got.get, timeout=10.0) for _ in range(2)]
    assert (first.payload, second.payload) == (Item("a", 1), Item("b", 2))
    assert (first.correlation_id, first.type, first.headers["own"]) == ("c:1", "Item", "värde")
    assert "destination" not in first.headers


async def test_a_foreign_consumer_reads_what_we_publish(activemq: Handle, foreign: Foreign) -> None:
    bus, name = a_bus(activemq.url_of("stomp"), ""), _name()
    foreign.connection.subscribe(f"/queue/Consumer.foreign.VirtualTopic.{name}", "1", ack="auto")
    async with bus:
        await bus.publish(Topic(name, Item, key="key"), Item("k", 1), headers={"own": "a:b\nc"})
    frame = foreign.next()
    assert frame.body == b'{"key":"k","number":1}'
    expected = {"content-type": "application/json", "type": "Item", "ce-partitionkey": "k", "own": "a:b\nc"}
    assert {name: frame.headers.get(name) for name in expected} == expected
    assert frame.headers["persistent"] == "true"


async def test_a_foreign_requester_is_answered(activemq: Handle, foreign: Foreign) -> None:

    bus, name = a_bus(activemq.url_of("stomp"), ""), _name()

    @bus.responder(Rpc(name, Item, Item))
    async def answer(item: Item) -> Item:
        return Item(item.key, item.number + 1)

    async with bus.consuming():
        foreign.connection.subscribe("/temp-queue/answers", "1", ack="auto")
        headers = {"reply-to": "/temp-queue/answers", "correlation-id": "mine"}
        foreign.connection.send(f"/queue/{name}", '{"key": "a", "number": 1}', headers=headers)
        frame = await asyncio.to_thread(foreign.next)
    assert (frame.body, frame.headers["correlation-id"]) == (b'{"key":"a","number":2}', "mine")


async def test_a_text_message_stays_one_as_a_dead_letter(broker: StompBroker, foreign: Foreign) -> None:
    source = await _declare(broker, Source("queue", _name()))
    foreign.connection.send(f"/queue/{source.name}", "text", headers={"priority": "7"})
    async with broker.receiver(source, prefetch=1) as receiver:
        (delivery,) = await receiver.receive(1, 10.0)
        await receiver.settle([Settlement(delivery, Act.DEAD, headers={"msgbus-dead-reason": "no"})])
    foreign.connection.subscribe(f"/queue/DLQ.{source.name}", "1", ack="auto")
    frame = foreign.next()
    assert (frame.body, frame.headers["priority"], frame.headers["amq-msg-type"]) == (b"text", "7", "text")


async def test_text_beyond_the_basic_plane_is_as_java_writes_it(broker: StompBroker, foreign: Foreign) -> None:
    text, java = "gr\u00fc\u00df \U0001f600", b"gr\xc3\xbc\xc3\x9f \xed\xa0\xbd\xed\xb8\x80"
    # What the foreign program reads and what we read are two queues: a subscription that it ends takes messages
    # until the server has read that, and they come over another connection than ours.
    theirs, ours = [await _declare(broker, Source("queue", _name())) for _ in range(2)]
    outs = [
        Outgoing(source.address, "1", text.encode(), {"ce-id": "1"}, native=StompOptions(text=True))
        for source in (theirs, ours)
    ]
    assert [type(result) for result in await broker.send(outs)] == [Receipt, Receipt]
    foreign.connection.subscribe(f"/queue/{theirs.name}", "1", ack="auto")
    assert foreign.next().body == java
    foreign.connection.send(f"/queue/{ours.name}", java)
    async with broker.receiver(ours, prefetch=2) as receiver:
        got = [*await receiver.receive(2, 30.0)]
        got += [] if len(got) == 2 else await receiver.receive(1, 30.0)
        assert [delivery.body.decode() for delivery in got] == [text, text]


async def test_native_options(broker: StompBroker, foreign: Foreign) -> None:
    source = await _declare(broker, Source("queue", _name()))
    out = Outgoing(source.address, "1", b"text", {"ce-id": "1"})
    out.native = StompOptions(priority=9, persistent=False, text=True, headers=(("JMSXGroupID", "g"),))
    assert isinstance((await broker.send([out]))[0], Receipt)
    foreign.connection.subscribe(f"/queue/{source.name}", "1", ack="auto")
    frame = foreign.next()
    assert (frame.body, frame.headers["priority"], frame.headers["amq-msg-type"]) == (b"text", "9", "text")
    assert "persistent" not in frame.headers
    with pytest.raises(ValueError, match="0 to 255"):
        StompOptions(priority=256)


async def test_native_options_through_a_bus(activemq: Handle, foreign: Foreign) -> None:
    name = _name()
    bus, target = a_bus(activemq.url_of("stomp"), ""), Queue(name, Item)
    foreign.connection.subscribe(f"/queue/{name}", "1", ack="auto")
    async with bus:
        await bus.send(target, Item("k", 1), options=SendOptions(native=StompOptions(priority=8)))
    assert foreign.next().headers["priority"] == "8"


@pytest.mark.parametrize("server", ["activemq", "rabbitmq"])
async def test_names_with_a_meaning_in_stomp_are_carried(request: pytest.FixtureRequest, server: str) -> None:
    handle: Handle = request.getfixturevalue(server)
    broker = StompBroker(handle.url_of("stomp"), clock=SystemClock())
    await broker.connect()
    source = await _declare(broker, Source("queue", _name()))
    names = ("destination", "receipt", "transaction", "id", "priority", "expires", "type", "reply-to", "content-length")
    headers = {"ce-id": "1", "ce-type": "T", **{name: f"own {name}" for name in names}, "msgbus-own-x": "y"}
    out = Outgoing(source.address, "1", b"x", headers)
    assert isinstance((await broker.send([out]))[0], Receipt)
    async with broker.receiver(source, prefetch=1) as receiver:
        (delivery,) = await receiver.receive(1, 10.0)
        found = {name: value for name, value in delivery.headers.items() if name in headers}
        assert {name: found.get(name) for name in names} == {name: f"own {name}" for name in names}
        assert found["ce-type"] == "T"
        await receiver.settle([Settlement(delivery, Act.ACK)])
    await broker.close()


@pytest.mark.parametrize("client", ["lean", "stomp.py"])
async def test_a_header_that_is_too_long_is_refused_alone(activemq: Handle, client: str) -> None:
    broker = StompBroker(f"{activemq.url_of('stomp')}?client={client}", clock=SystemClock())
    await broker.connect()
    source = await _declare(broker, Source("queue", _name()))
    values = ["x", "x" * 20_000, ":" * 6_000, "x" * 9_900]
    outs = [Outgoing(source.address, "1", b"x", {"ce-id": "1", "long": value}) for value in values]
    results = await broker.send(outs)
    assert [type(result) for result in results] == [Receipt, Refused, Refused, Receipt]
    assert "header long" in str(results[1])
    assert await broker.admin.purge(source) == 2
    await broker.close()


async def test_a_transaction_that_is_rolled_back_is_sent_one_by_one(broker: StompBroker) -> None:
    source = await _declare(broker, Source("queue", _name()))
    gone = Address("reply", "/remote-temp-queue/ID:nobody-1:1")
    outs = [Outgoing(to, "1", b"x", {"ce-id": "1"}) for to in (source.address, gone, source.address)]
    results = await broker.send(outs)
    assert [type(result) for result in results] == [Receipt, Receipt, Receipt]
    assert [getattr(result, "unrouted", None) for result in results] == [False, True, False]
    assert await broker.admin.purge(source) == 2


async def test_a_transaction_that_was_stored_in_part_is_in_doubt_once(broker: StompBroker) -> None:
    source = await _declare(broker, Source("queue", _name()))
    outs = [Outgoing(source.address, "1", b"x", {"ce-id": "1"}) for _ in range(3)]
    outs[1].native = StompOptions(headers=(("amq-msg-type", "painting"),))
    assert {type(result) for result in await broker.send(outs)} == {Unavailable}  # the core sends them again
    results = await broker.send(outs)
    assert [type(result) for result in results] == [Receipt, Refused, Receipt]
    assert "painting" in str(results[1])
    assert await broker.admin.purge(source) == 4


async def test_a_release_in_mid_life_goes_to_somebody_else(broker: StompBroker) -> None:
    source = await _declare(broker, Source("queue", _name()))
    await broker.send([Outgoing(source.address, "1", b"x", {"ce-id": "1"})])
    async with broker.receiver(source, prefetch=1) as first:
        (delivery,) = await first.receive(1, 10.0)
        assert list(await first.settle([Settlement(delivery, Act.RELEASE)])) == [None]
        (again,) = await first.receive(1, 10.0)
        assert (again.headers["ce-id"], again.attempt) == ("1", 1)
        await first.settle([Settlement(again, Act.ACK)])


async def test_a_server_that_selects_for_groups(selecting: Server) -> None:
    broker = StompBroker(f"{selecting.url}?selectors=on", clock=SystemClock())
    await broker.connect()
    wanted = (("colour", ("red", "it's")), ("ce-type", ("A",)), ("not-an-identifier", ("x",)))
    source = await _declare(broker, Source("topic", _name(), "g", filter=wanted))
    async with broker.receiver(source, prefetch=10) as receiver:
        for colour, kind in (("green", "A"), ("red", "B"), ("it's", "A"), ("red", "A")):
            headers = {"ce-id": colour, "ce-type": kind, "colour": colour}
            await broker.send([Outgoing(Address("topic", source.name), "1", b"x", headers)])
        got: list[str] = []
        while len(got) < 2:
            for delivery in await receiver.receive(10, 10.0):
                got.append(delivery.headers["ce-id"])
                await receiver.settle([Settlement(delivery, Act.ACK)])
        assert got == ["it's", "red"]
    assert await broker.admin.purge(Source("topic", source.name, "g")) == 0, "what nobody wants must not pile up"
    await broker.close()


@pytest.fixture
def selecting() -> Iterator[Server]:
    server = Server.new(activemq_with(selector_aware=True))
    server.start()
    yield server
    server.close()


async def test_amqp_and_stomp_meet_on_rabbitmq(rabbitmq: Handle) -> None:
    """A queue that the AMQP broker made: what one sends, the other handles, and a request finds its answer."""
    source, clock = Source("queue", _name()), SystemClock()
    amqp, over_stomp = brokers.broker_for(rabbitmq.url, clock), StompBroker(rabbitmq.url_of("stomp"), clock=clock)
    await amqp.connect()
    await over_stomp.connect()
    await amqp.admin.ensure([QueueSpec(source)], "create")
    assert list(await over_stomp.admin.ensure([QueueSpec(source)], "verify")) == []
    headers = {"ce-id": "i", "ce-type": "T", "content-type": "a/b", "correlation_id": "c", "own": "a:b"}
    for sender, reader in ((amqp, over_stomp), (over_stomp, amqp)):
        async with sender.receiver(Source("reply", "r"), prefetch=1) as inbox, reader.receiver(source, prefetch=1) as r:
            asked = Outgoing(source.address, "i", b"\0?", {**headers, "reply_to": inbox.address})
            assert isinstance((await sender.send([asked]))[0], Receipt)
            (request,) = await r.receive(1, 10.0)
            assert {name: request.headers.get(name) for name in headers} == headers
            answer = Outgoing(Address("reply", request.headers["reply_to"]), "j", b"!", {"correlation_id": "c"})
            assert isinstance((await reader.send([answer]))[0], Receipt)
            (reply,) = await inbox.receive(1, 10.0)
            assert (reply.body, reply.headers["correlation_id"]) == (b"!", "c")
            await r.settle([Settlement(request, Act.ACK)])
    await over_stomp.close()
    await amqp.close()

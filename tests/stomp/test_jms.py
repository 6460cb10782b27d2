"""Beside a program with ActiveMQ's own JMS client: text, priorities, groups, requests, and what STOMP does not show."""

from __future__ import annotations

import asyncio

import pytest
from tests.slowness import slowness
from tests.stomp.flow import a_bus
from tests.stomp.jms import Peer

from msgbus import Bus, Limits, Message, Queue, Rpc, SendOptions
from msgbus.brokers.stomp import StompOptions
from msgbus.dead import DeadLetters

TEXTS = ("plain", "grüß", "\U0001f600 \U0001f680", "a\0b", "x" * 70_000, " ", "\u2400")
PATIENCE = 30.0 * slowness()


def reading(url: str, queue: Queue[str], limits: Limits | None = None) -> tuple[Bus, asyncio.Queue[Message[str]]]:
    """A bus that reads a queue, and what came."""
    bus, came = a_bus(url, ""), asyncio.Queue[Message[str]]()

    @bus.consumer(queue, limits=limits)
    async def handle(message: Message[str]) -> None:
        came.put_nowait(message)

    return bus, came


async def take(came: asyncio.Queue[Message[str]], count: int = 1) -> list[Message[str]]:
    async with asyncio.timeout(PATIENCE):
        return [await came.get() for _ in range(count)]


async def test_text_is_the_same_both_ways(url: str, peer: Peer, name: str) -> None:
    bus, came = reading(url, Queue(name, str))
    async with bus.consuming():
        for text in TEXTS * 15:
            peer.send(name, "text", body=text)
        assert [message.payload for message in await take(came, len(TEXTS) * 15)] == [*TEXTS * 15]
    back = Queue(f"{name}.back", str)
    bus, _ = reading(url, back)
    async with bus.consuming():
        pass
    async with a_bus(url, "") as bus:
        for text in TEXTS * 15:
            await bus.send(back, text, options=SendOptions(native=StompOptions(text=True)))
    got = [await asyncio.to_thread(peer.run, do="receive", queue=back.name) for _ in TEXTS * 15]
    assert [told["text"] for told in got] == [*TEXTS * 15]


async def test_priority_is_a_header_both_ways(url: str, peer: Peer, name: str) -> None:
    queue = Queue(name, str)
    bus, came = reading(url, queue)
    async with bus.consuming():
        peer.send(name, "text", body="a", priority="7")
        peer.send(name, "text", body="b")
        high, usual = await take(came, 2)
        assert (high.headers["JMSPriority"], "JMSPriority" in usual.headers) == ("7", False)
    async with bus:
        await bus.send(queue, "c", headers={"JMSPriority": "9"})
        with pytest.raises(Exception, match="JMSPriority is 'high': a number from 0 to 9"):
            await bus.send(queue, "d", headers={"JMSPriority": "high"})
    told = await asyncio.to_thread(peer.run, do="receive", queue=name, selector="JMSType = 'str'")
    assert (told["bytes"], told["priority"], told["type"]) == ("c", "9", "str")
    assert told["property.ce-type"] == "str"


async def test_the_order_of_a_group_that_is_not_shown_is_kept(url: str, peer: Peer, name: str) -> None:
    """STOMP does not tell JMSXGroupID: what a JMS program sent is handled in the order in which it came."""
    bus, seen, last = a_bus(url, ""), [], asyncio.Event()
    running = 0

    @bus.consumer(Queue(name, str, key=str, ordered=True), limits=Limits(concurrency=10))
    async def handle(text: str) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running -= 1
        seen.append(int(text))
        if len(seen) == 100:
            last.set()

    async with bus.consuming():
        for number in range(100):
            peer.send(name, "text", body=str(number), group="g")
        async with asyncio.timeout(PATIENCE):
            await last.wait()
    assert seen == [*range(100)]


@pytest.mark.parametrize("kind", ["text", "bytes"])
async def test_a_jms_program_asks_and_is_answered_in_its_own_form(url: str, peer: Peer, name: str, kind: str) -> None:
    """Without a correlation id of its own it expects its message id back."""
    bus = a_bus(url, "")

    @bus.responder(Rpc(name, str, str))
    async def answer(text: str) -> str:
        if text == "fail":
            raise LookupError("not there")
        return text.upper()

    async with bus.consuming():
        for text in ("grüß", "\U0001f600", *map(str, range(100))):
            told = await asyncio.to_thread(peer.run, do="request", queue=name, kind=kind, body=text)
            assert (told[kind], told["correlation"]) == (text.upper(), told["id"])
        told = await asyncio.to_thread(peer.run, do="request", queue=name, kind=kind, body="a", correlation="mine")
        assert (told[kind], told["correlation"]) == ("A", "mine")
        told = await asyncio.to_thread(peer.run, do="request", queue=name, kind=kind, body="fail")
        assert told["property.msgbus-reply-error"] == "LookupError"


async def test_a_jms_program_answers(url: str, peer: Peer, name: str) -> None:
    rpc = Rpc(name, str, str)
    bus, _ = reading(url, Queue(name, str))
    async with bus.consuming():
        pass  # the queue is made
    async with bus:
        answering = asyncio.ensure_future(
            asyncio.to_thread(peer.run, do="respond", queue=name, kind="text", body="grüß \U0001f600")
        )
        assert await bus.request(rpc, "hello", timeout=PATIENCE) == "grüß \U0001f600"
        await answering


@pytest.mark.parametrize("kind", ["stream", "object", "plain"])
async def test_what_stomp_does_not_show_is_buried_whole_by_the_server(
    url: str, peer: Peer, name: str, kind: str
) -> None:
    """Never acknowledged as if it were empty; its neighbours don't notice, and Java can read it afterwards."""
    bus, came = reading(url, Queue(name, str))
    async with bus.consuming():
        for number in range(5):
            peer.send(name, "text", body=str(number))
        peer.send(name, kind, body="precious", property_mark=name)
        for number in range(5, 10):
            peer.send(name, "text", body=str(number))
        assert [message.payload for message in await take(came, 10)] == [*map(str, range(10))]
        told = await asyncio.to_thread(peer.run, do="receive", queue="ActiveMQ.DLQ", selector=f"mark = '{name}'")
        assert bus.health().problems == ()
    assert "none" not in told
    if kind == "stream":
        assert told[kind] == "precious"
    assert (kind != "object") or "object" in told


async def test_what_stomp_does_not_show_is_not_sent_back_empty(url: str, peer: Peer, name: str) -> None:
    bus, _ = reading(url, Queue(name, str))
    async with bus.consuming():
        pass
    peer.send(f"DLQ.{name}", "stream", body="precious")  # where a server with individual queues of dead letters puts it
    async with bus.connected():
        done = await DeadLetters(bus, name).redrive()
        assert (done.moved, len(done.failed)) == (0, 1)
        assert "a Stream or Object message" in str(done.failed[0].error)
    told = await asyncio.to_thread(peer.run, do="receive", queue=f"DLQ.{name}")
    assert told["stream"] == "precious"

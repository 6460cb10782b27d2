"""What anybody may put into a queue or try to send: the odd one is dead or refused, those beside it are not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel
from tests.faults.http import Call, FaultyHttp, answer
from tests.servers import Handle
from tests.sqs.conftest import Aws, url_of
from tests.sqs.odd import DEADLY

from msgbus import Bus, Queue, Retry
from msgbus import headers as h
from msgbus.brokers.sqs import SqsBroker
from msgbus.errors import Refused
from msgbus.message import Address, Delivery, Outgoing, Receipt


class Order(BaseModel):
    number: int


async def handled_of(
    bus: Bus, queue: Queue[Order], count: int, meanwhile: Callable[[], Any], *, letters: bool = True
) -> list[int]:
    """The first `count` that were handled; `meanwhile` is done once it consumes. `letters`: one is awaited."""
    handled, dead = asyncio.Queue[int](), asyncio.Queue[None]()

    async def buried(_delivery: Delivery, _error: Exception) -> None:
        dead.put_nowait(None)

    @bus.consumer(queue, retry=Retry(attempts=1, on_dead=buried))
    async def handle(order: Order) -> None:
        handled.put_nowait(order.number)

    async with bus.consuming():
        await meanwhile()
        found = [await handled.get() for _ in range(count)]
        if letters:
            await dead.get()
    assert handled.empty()
    return sorted(found)


@pytest.mark.parametrize("kind", DEADLY)
async def test_the_other_nine_of_a_poll_are_handled(
    server: Handle, bus_on: Callable[..., Bus], aws: Aws, name: str, kind: str
) -> None:
    body, attributes = DEADLY[kind]
    bus = bus_on(server.url)
    odd = {"Id": "odd", "MessageBody": body, "MessageAttributes": attributes}
    good = [{"Id": str(n), "MessageBody": json.dumps({"number": n})} for n in range(9)]

    async def put() -> None:
        await aws.sqs("SendMessageBatch", QueueUrl=await aws.url(name), Entries=[*good[:5], odd, *good[5:]])

    assert await handled_of(bus, Queue(name, Order), 9, put) == list(range(9))
    (letter,) = await aws.receive(f"{name}-dead")
    assert letter["Body"] == body
    packed = letter["MessageAttributes"].get(h.PACKED)
    if kind != "ten binary attributes":  # there is no room for why
        assert json.loads(packed["StringValue"])[h.DEAD_REASON]


NONSENSE: dict[str, dict[str, Any]] = {
    "half a surrogate pair": {"Body": "\ud800"},
    "no body": {"Body": None},
    "a count that is none": {"Attributes": {"ApproximateReceiveCount": "many"}},
    "a time that is none": {"Attributes": {"SentTimestamp": "now"}},
    "a time beyond all": {"Attributes": {"SentTimestamp": "9" * 400}},
    "attributes that are none": {"MessageAttributes": {"a": 1}},
    "no base64": {"MessageAttributes": {"a": {"DataType": "Binary", "BinaryValue": "a"}}, "Body": "x"},
}


@pytest.mark.parametrize("kind", NONSENSE)
async def test_an_answer_with_an_odd_message_among_good_ones(
    fauxqs: Handle, aws_fauxqs: Aws, name: str, kind: str
) -> None:
    async def meet(call: Call) -> bytes | None:
        status, body = await call.forward()
        if call.operation == "ReceiveMessage":
            told = json.loads(body)
            for message in told.get("Messages") or ():
                message.update(NONSENSE[kind] if message["Body"] == '{"number": 7}' else {})
            body = json.dumps(told).encode()
        return answer(status, body)

    async with FaultyHttp(fauxqs.url, meet) as proxy:
        bus = Bus(url_of(proxy.url))
        bodies = [{"Id": str(n), "MessageBody": f'{{"number": {n}}}'} for n in range(10)]

        async def put() -> None:
            await aws_fauxqs.sqs("SendMessageBatch", QueueUrl=await aws_fauxqs.url(name), Entries=bodies)

        letters = kind not in ("half a surrogate pair", "no body")  # of those none can be made: they stay
        handled = await handled_of(bus, Queue(name, Order), 9, put, letters=letters)
        assert handled == [n for n in range(10) if n != 7]


# -- out


def out(name: str, kind: str = "queue", **odd: Any) -> Outgoing:
    given: dict[str, Any] = {"id": "i", "body": b"{}", "headers": {}, **odd}
    return Outgoing(Address(kind, name), **given)  # type: ignore[arg-type]


ODD_OUT: dict[str, dict[str, Any]] = {
    "a control character": {"body": b"a\x00b"},
    "no character": {"body": "\uffff".encode()},
    "no UTF-8": {"body": b"\xff"},
    "a body that is text": {"body": "text"},
    "an int as a header": {"headers": {"a": 1}},
    "an int as a name": {"headers": {1: "a"}},
    "an int as a key": {"key": 1},
    "too many headers": {"headers": {f"a{number}": "b" for number in range(11)}},
    "a delay that is text": {"delay": "soon"},
}


@pytest.mark.parametrize("kind", ["queue", "topic"])
@pytest.mark.parametrize("odd", ODD_OUT)
async def test_an_entry_that_can_not_be_written_is_refused_alone(
    broker: SqsBroker, aws: Aws, name: str, odd: str, kind: str
) -> None:
    await (aws.queue(name) if kind == "queue" else aws.sns("CreateTopic", Name=name))
    good = [out(name, kind) for _ in range(9)]
    results = await broker.send([*good[:4], out(name, kind, **ODD_OUT[odd]), *good[4:]])
    refused = results[4]
    assert isinstance(refused, Refused)
    assert kind in str(refused)
    assert all(isinstance(each, Receipt) for place, each in enumerate(results) if place != 4)


@pytest.mark.parametrize("header", ["", "a b", "aws.x", "Amazon.y", ".a", "a.", "a..b", "\u00fc", "x" * 257, "\x1b"])
async def test_a_name_that_no_attribute_has_is_packed(broker: SqsBroker, aws: Aws, name: str, header: str) -> None:
    await aws.queue(name)
    (result,) = await broker.send([out(name, headers={header: "value"})])
    assert isinstance(result, Receipt)
    (message,) = await aws.receive(name)
    assert json.loads(message["MessageAttributes"][h.PACKED]["StringValue"]) == {header: "value"}


@pytest.mark.parametrize("address", ["http://[::1/1/q", "", "ftp://x/1/q", "queue", "http://host/q", "\ud800"])
async def test_a_reply_to_nowhere_is_refused_alone(broker: SqsBroker, aws: Aws, name: str, address: str) -> None:
    await aws.queue(name)
    results = await broker.send([out(name), out(address, "reply"), out(name)])
    assert isinstance(results[1], Refused)
    assert isinstance(results[0], Receipt)
    assert isinstance(results[2], Receipt)

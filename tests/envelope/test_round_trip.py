"""From publish to the handler, through brokers that can carry much, little and next to nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest
from tests.conftest import OpenScripted
from tests.models import Order, Refund
from tests.scripted import PLAIN, HandClock, Result, ScriptedBroker, consuming
from typing_extensions import TypedDict

from msgbus import Bus, Delivery, Message, Outgoing, Queue, Receipt
from msgbus import headers as h
from msgbus.message import Act, Source

CARRIES = {
    "native": PLAIN,
    "text": replace(PLAIN, binary=False),
    "few headers": replace(PLAIN, headers=10),
    "few headers, text": replace(PLAIN, headers=10, binary=False),
    "no headers": replace(PLAIN, headers=0),
    "no headers, text": replace(PLAIN, headers=0, binary=False),
}


@dataclass
class Point:
    """A dataclass."""

    x: int


class Row(TypedDict):
    """A TypedDict."""

    x: int


class Struct(msgspec.Struct):
    """A msgspec Struct."""

    x: int


PAYLOADS: dict[str, tuple[Any, Any]] = {
    "model": (Order, Order(order_id="ä\n\x00")),
    "dataclass": (Point, Point(1)),
    "typed dict": (Row, Row(x=1)),
    "struct": (Struct, Struct(1)),
    "union": (Order | Refund, Refund(order_id="1", amount=5)),
    "mapping": (dict[str, int], {"a": 1}),
    "bytes": (bytes, bytes(range(256))),
    "no bytes": (bytes, b""),
    "text": (str, "häl\nlo"),
    "odd text": (str, "nul \x00 and \ufffe"),
    "no text": (str, ""),
}


def loop_back(broker: ScriptedBroker, source: Source) -> None:
    """Have what is sent delivered to `source`, with what such a broker carries."""

    async def on_send(batch: Sequence[Outgoing]) -> Sequence[Result]:
        for out in batch:
            if not broker.caps.binary:
                out.body.decode()
            headers = {} if broker.caps.headers == 0 else dict(out.headers)
            assert broker.caps.headers is None or len(headers) <= broker.caps.headers
            broker.feed(source.name, Delivery(out.body, source, headers))
        return [Receipt(out.id) for out in batch]

    broker.on_send = on_send


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("carries", CARRIES)
async def test_payload_headers_and_ids_arrive(
    clock: HandClock, scripted: OpenScripted, carries: str, payload: str
) -> None:
    type_, value = PAYLOADS[payload]
    queue: Queue[Any] = Queue("things", type_, key=lambda thing: "kéy")
    broker = scripted(CARRIES[carries])
    loop_back(broker, Source("queue", "things"))
    bus = Bus("scripted://one", clock=clock)
    seen: list[Message[Any]] = []

    @bus.consumer(queue)
    async def handle(message: Message[Any]) -> None:
        seen.append(message)

    headers = {"tenant": "t", "naïve": "ünï\u20ac\n", "ce-mine": "x", "Upper": ""}
    async with consuming(bus, clock):
        receipt = await bus.send(queue, value, headers=headers)
        await clock.until(lambda: broker.settled)
    (message,) = seen
    assert message.payload == value
    assert (message.id, message.key, message.attempt) == (receipt.id, "kéy", 1)
    assert {name: message.headers[name] for name in headers} == headers
    assert message.headers[h.SOURCE] == "msgbus"
    assert [settlement.act for settlement in broker.settled] == [Act.ACK]


@pytest.mark.parametrize("carries", CARRIES)
async def test_a_damaged_message_is_dead_alone(clock: HandClock, scripted: OpenScripted, carries: str) -> None:
    queue = Queue("things", Order)
    source = Source("queue", "things")
    broker = scripted(CARRIES[carries])
    loop_back(broker, source)
    bus = Bus("scripted://one", clock=clock)
    seen: list[Order] = []

    @bus.consumer(queue)
    async def handle(order: Order) -> None:
        seen.append(order)

    async with consuming(bus, clock):
        for body in (b"", b"\xff", b"{", b'{"specversion":"1.0"', b'{"specversion":"1.0","data":{}}'):
            broker.feed("things", Delivery(body, source, {}))
        await bus.send(queue, Order(order_id="fine"))
        await clock.until(lambda: len(broker.settled) == 6)
    assert [settlement.act for settlement in broker.settled] == [Act.DEAD] * 5 + [Act.ACK]
    assert seen == [Order(order_id="fine")]

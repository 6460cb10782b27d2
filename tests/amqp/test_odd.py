"""Odd header tables: read to their end, or their message's fault alone; copies keep their types."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import frame
from pamqp.commands import Basic
from tests.amqp.conftest import Connect, out, queue, send, take
from tests.amqp.odd import TABLES, RawClient, entry, nested, pamqp_reads
from tests.servers import Handle

from msgbus import headers as h
from msgbus.brokers.amqp import codec
from msgbus.brokers.amqp.properties import read_properties
from msgbus.brokers.amqp.wire import Arrived
from msgbus.brokers.mq.rabbitmq import dead_of
from msgbus.errors import DecodeError
from msgbus.message import Act, Settlement, Source

UNREADABLE = {
    "an unknown type": entry(b"a", b"?x"),
    "text longer than its table": entry(b"a", b"S\0\0\1\0x"),
    "a table longer than its table": entry(b"a", b"F\0\0\1\0x"),
    "a list longer than its table": entry(b"a", b"A\xff\xff\xff\xffx"),
    "a number cut short": entry(b"a", b"l\0"),
    "a name longer than its table": b"\xffa",
    "a name without a value": entry(b"a", b""),
    "an unknown type inside": entry(b"a", b"F\0\0\0\3\1n?"),
}


def content(table: bytes, flags: int = 0x2000, channel: int = 1) -> bytes:
    """A delivery without a body."""
    method = frame.marshal(Basic.Deliver("t", 1, False, "", "q"), channel)
    head = struct.pack(">HHQH", 60, 0, 0, flags) + struct.pack(">I", len(table)) + table
    return method + struct.pack(">BHI", codec.HEADER, channel, len(head)) + head + b"\xce"


@pytest.mark.parametrize("name", sorted(UNREADABLE))
def test_what_can_t_be_read_is_the_fault_of_its_message_alone(name: str) -> None:
    good = entry(b"a", b"S\0\0\0\1b")
    odd, after = codec.Decoder().feed(content(UNREADABLE[name]) + content(good))
    assert isinstance(odd, Arrived)
    assert isinstance(odd.fault, DecodeError)
    assert isinstance(after, Arrived)
    assert (after.fault, after.headers) == (None, {"a": "b"})


def test_flags_that_nobody_knows_are_a_fault_too() -> None:
    odd, after = codec.Decoder().feed(content(b"", flags=0x2001) + content(b""))
    assert isinstance(odd, Arrived)
    assert isinstance(odd.fault, DecodeError)
    assert isinstance(after, Arrived)
    assert after.fault is None


@given(st.binary(max_size=200))
def test_no_properties_at_all_raise_anything(data: bytes) -> None:
    read_properties(data + bytes(600), 0, len(data), Arrived(1, 1, False, "", ""))


def test_what_lies_too_deep_is_passed_over() -> None:
    arrived = Arrived(1, 1, False, "", "")
    table = nested(5000)
    read_properties(struct.pack(">HI", 0x2000, len(table)) + table, 0, len(table) + 6, arrived)
    assert arrived.fault is None
    assert "nested too deep" in arrived.headers["t"]
    assert arrived.typed is not None
    assert arrived.typed["t"] == table[2:]


def _foreign(headers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Without what the copy is told, what the server writes, and the id that aiormq gives."""
    ours = ("msgbus-attempt", "msgbus-dead-reason", "x-death", "x-delivery-count", h.ID)
    return {name: value for name, value in (headers or {}).items() if name not in ours}


@pytest.mark.parametrize("act", [Act.RETRY, Act.DEAD])
@pytest.mark.parametrize("kind", sorted(TABLES))
async def test_a_copy_keeps_what_came(
    connect: Connect, rabbitmq: Handle, name: str, client: str, kind: str, act: Act
) -> None:
    if client != "lean" and (not pamqp_reads(TABLES[kind]) or "not UTF-8" in kind):
        pytest.skip("aiormq can't read it, or not as it is: see docs/reference/amqp.md")
    broker = await connect()
    source = await queue(broker, name)
    async with RawClient(rabbitmq.url) as raw:
        await raw.put(name, TABLES[kind], b"body")
    async with broker.receiver(source, prefetch=10) as receiver:
        (first,) = await take(receiver)
        assert first.fault is None
        given = {h.DEAD_REASON: "r"} if act is Act.DEAD else {h.ATTEMPT: "2"}
        assert await receiver.settle([Settlement(first, act, headers=given)]) == [None]
        place = Source("queue", dead_of(name)) if act is Act.DEAD else source
        async with broker.receiver(place, prefetch=10) as again:
            (copy,) = await take(receiver if act is Act.RETRY else again)
            assert copy.body == b"body"
            assert _foreign(copy.headers) == _foreign(first.headers)
            if client == "lean":  # pamqp writes a type of its own choice
                assert _foreign(copy.raw.typed) == _foreign(first.raw.typed)
            assert (copy.attempt == 2) == (act is Act.RETRY)


async def test_a_copy_is_sent_nowhere_else(connect: Connect, rabbitmq: Handle, name: str) -> None:
    broker = await connect()
    source, other = await queue(broker, name), await queue(broker, f"{name}-other")
    target = other.name.encode()
    table = entry(b"CC", b"A" + struct.pack(">IcI", len(target) + 5, b"S", len(target)) + target)
    async with RawClient(rabbitmq.url) as raw:
        await raw.put(name, table, b"body")
    async with broker.receiver(source, prefetch=1) as receiver, broker.receiver(other, prefetch=9) as elsewhere:
        (first,) = await take(receiver)
        assert await receiver.settle([Settlement(first, Act.RETRY, headers={h.ATTEMPT: "2"})]) == [None]
        (copy,) = await take(receiver)
        assert "CC" in copy.headers
        await take(elsewhere)  # the sender asked for that one
        await send(broker, out(other, b"mark"))
        assert [each.body for each in await take(elsewhere)] == [b"mark"]


@pytest.mark.parametrize("header", ["CC", "BCC"])
async def test_a_header_that_the_server_would_obey_is_carried_as_any_other(
    connect: Connect, name: str, header: str
) -> None:
    broker = await connect()
    source = await queue(broker, name)
    await send(broker, out(source, b"x", **{header: "elsewhere"}))
    async with broker.receiver(source, prefetch=10) as receiver:
        (delivery,) = await take(receiver)
        assert delivery.headers[header] == "elsewhere"

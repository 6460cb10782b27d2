"""AMQP 0-9-1: what a server sends, and the tables of headers in it."""

from __future__ import annotations

import contextlib
import struct
from random import Random
from typing import Any

from pamqp import encode, frame
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.commands import Basic, Channel, Connection
from pamqp.header import ContentHeader
from tests.fuzz.target import Target

from msgbus.brokers.amqp.codec import Decoder, FrameError
from msgbus.brokers.amqp.properties import read_properties
from msgbus.brokers.amqp.tables import read_table
from msgbus.brokers.amqp.wire import Arrived
from msgbus.errors import BusError

_DELIVER = Basic.Deliver("ctag", 7, False, "shop", "orders")
_HEADERS: dict[str, Any] = {
    "ce-id": "a",
    "n": 5,
    "list": [1, True, None, {"x": 2.5}],
    "raw": bytearray(b"\xff"),
    "x-death": [{"c": 1}],
}
_PROPERTIES = Basic.Properties(
    content_type="application/json", headers=_HEADERS, delivery_mode=2, priority=3, correlation_id="c", message_id="m"
)
_KINDS = "tbBsuIilLfdDTV\0SxAF?"


def _content(body: bytes, properties: Basic.Properties = _PROPERTIES, channel: int = 1) -> bytes:
    parts: tuple[Frame | ContentHeader | ContentBody, ...] = (
        _DELIVER,
        ContentHeader(0, len(body), properties),
        ContentBody(body),
    )
    return b"".join(frame.marshal(part, channel) for part in parts)


_START = frame.marshal(Connection.Start(0, 9, {"capabilities": {"basic.nack": True}}, "PLAIN", "en_US"), 0)
_OTHERS = [
    *(_START, frame.marshal(Basic.Ack(5, True), 1), frame.marshal(Channel.Close(406, "PRECONDITION", 60, 40), 1)),
    frame.marshal(Connection.Tune(2047, 131072, 60), 0),
]


def _stream(data: bytes) -> None:
    """Whole, and in two pieces: where neither fails, the same must come of it."""
    whole = Decoder().feed(data)
    decoder, middle = Decoder(), len(data) // 3
    with contextlib.suppress(FrameError):
        parts = decoder.feed(data[:middle]) + decoder.feed(data[middle:])
        assert len(parts) == len(whole)


def _made(kind: int, payload: bytes, channel: int = 1) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def _make(random: Random) -> bytes:
    """Whole frames whose insides are damaged: those of noise end at the first byte of the frame."""
    table = _make_table(random)
    header = struct.pack(">HHQH", 60, 0, random.choice((0, 3, 2**63)), random.choice((0x2000, 0xFFFC, 0x2003)))
    header += struct.pack(">I", len(table)) + table
    method = struct.pack(">I", random.choice((0x0A000A, 0x3C003C, 0x3C0032, 0x14000A, 0xA0032))) + b"\0\x09"
    parts = [
        *(_made(1, frame.marshal(_DELIVER, 1)[7:-1]), _made(2, header), _made(3, b"abc")),
        *(_made(1, method + struct.pack(">I", len(table)) + table), random.choice(_OTHERS)),
    ]
    return b"".join(parts[: random.randint(1, 5)] if random.random() < 0.7 else random.choices(parts, k=4))


def _make_table(random: Random, depth: int = 0) -> bytes:
    name = random.choice((b"x", b"x-death", b"CC", b"", b"\xff", b"x-delivery-count"))
    return b"".join(bytes((len(name),)) + name + _value(random, depth) for _ in range(random.randint(0, 3)))


def _value(random: Random, depth: int) -> bytes:
    kind = random.choice(_KINDS)
    if kind in "SxAF":
        inner = _make_table(random, depth + 1) if kind == "F" and depth < 4 else random.randbytes(random.randint(0, 9))
        return kind.encode() + struct.pack(">I", len(inner)) + inner
    return kind.encode() + random.randbytes({"t": 1, "b": 1, "B": 1, "V": 0, "\0": 0, "D": 5}.get(kind, 8))


def _nested(size: int) -> bytes:
    """Tables in tables, then so many numbers."""
    table = b"\1ni\0\0\0\5" * (size // 14)
    for _ in range(size // 14):
        table = b"\1xF" + struct.pack(">I", len(table)) + table
    return table


def _deep(size: int) -> bytes:
    """A method of the connection with tables in tables."""
    table = _nested(size)
    return _made(1, b"\0\x0a\0\x0a\0\x09" + struct.pack(">I", len(table)) + table + bytes(10), 0)


def _greedy(size: int) -> bytes:
    """Messages each of which says that its headers go on to the end of all that came."""
    header = struct.pack(">HHQHI", 60, 0, 0, 0x2000, size) + b"\1xS" + struct.pack(">I", size // 2)
    one = _made(1, frame.marshal(_DELIVER, 1)[7:-1]) + _made(2, header)
    return one * (size // len(one))


def _properties(data: bytes) -> None:
    arrived = Arrived(1, 1, False, "", "")
    read_properties(data, 0, len(data), arrived)
    for name, value in arrived.headers.items():
        assert isinstance(name, str)
        assert isinstance(value, str)
    assert arrived.fault is None or isinstance(arrived.fault, BusError)


def _with_table(table: bytes) -> bytes:
    return b"\x20\0" + struct.pack(">I", len(table)) + table


_PLAIN = _PROPERTIES.marshal()

TARGETS = (
    Target(
        name="amqp-frames",
        run=_stream,
        seeds=[_content(b"{}"), _content(b""), *_OTHERS, _content(b"x", channel=2) + _OTHERS[1]],
        make=_make,
        grow=(_deep, _greedy, lambda size: _content(b"x") * (size // len(_content(b"x")))),
        allowed=(FrameError,),
    ),
    Target(
        name="amqp-properties",
        run=_properties,
        seeds=[_PLAIN, Basic.Properties(message_id="m").marshal()],
        make=lambda random: _with_table(_make_table(random)),
        grow=(lambda size: _with_table(_nested(size)), lambda size: _with_table(b"\1xV" * (size // 3))),
    ),
    Target(
        name="amqp-tables",
        run=lambda data: read_table(data, 0, len(data)),
        seeds=[encode.field_table(_HEADERS)[4:]],
        make=_make_table,
        grow=(_nested, lambda size: b"\1xA" + struct.pack(">I", size) + b"V" * size),
        allowed=(ValueError, IndexError, struct.error),
    ),
)

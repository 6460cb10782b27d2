"""A raw client that publishes header tables of any bytes, and the odd ones that RabbitMQ takes."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pamqp import decode, frame
from pamqp.commands import Basic, Channel, Connection, Queue


def nested(depth: int, inner: bytes = b"\x01vI\0\0\0\1") -> bytes:
    """A table in a table in a table."""
    value = inner
    for _ in range(depth):
        value = b"\x01tF" + struct.pack(">I", len(value)) + value
    return value


def entry(name: bytes, value: bytes) -> bytes:
    """One of a table."""
    return bytes((len(name),)) + name + value


TABLES: Mapping[str, bytes] = {
    "a time in microseconds": entry(b"sent", b"T" + struct.pack(">Q", 1_700_000_000_000_000)),
    "a time before 1970": entry(b"sent", b"T" + struct.pack(">q", -1)),
    "a time beyond all": entry(b"sent", b"T" + b"\xff" * 8),
    "500 tables in each other": nested(500),
    "a key that is not UTF-8": entry(b"\xff\xfe", b"S\0\0\0\1x"),
    "a nested key that is not UTF-8": entry(b"n", b"F\0\0\0\4\2\xff\xfeV"),
    "text that is not UTF-8": entry(b"text", b"S\0\0\0\3\xff\xfe\0"),
    "bytes": entry(b"bytes", b"x\0\0\0\3\xff\xfe\0"),
    "our attempt as a number": entry(b"msgbus-attempt", b"I\0\0\0\7"),
    "our attempt as a table": entry(b"msgbus-attempt", b"F\0\0\0\0"),
    "a count of deliveries that is a table": entry(b"x-delivery-count", b"F\0\0\0\0"),
    "deaths that are a number": entry(b"x-death", b"I\0\0\0\7"),
    "a decimal": entry(b"price", b"D\xff\x7f\xff\xff\xff"),
    "nothing": entry(b"void", b"V"),
    "an empty name": entry(b"", b"S\0\0\0\1x"),
    "one name twice": entry(b"twice", b"S\0\0\0\1x") + entry(b"twice", b"I\0\0\0\7"),
    "a list of lists": entry(b"list", b"A\0\0\0\x06A\0\0\0\1V"),
    "an expiry in text": entry(b"ce-expirytime", b"S\0\0\0\4soon"),
    "where else to send it": entry(b"CC", b"A\0\0\0\x0cS\0\0\0\7nowhere"),
    "a packed header that is no JSON": entry(b"msgbus", b"S\0\0\0\1{"),
}
"""By what is odd with them."""


def pamqp_reads(table: bytes) -> bool:
    """Whether the client under the aio-pika wire survives it: else its connection ends, and nothing can be done."""
    try:
        decode.field_table(struct.pack(">I", len(table)) + table)
    except (ValueError, OverflowError, RecursionError):
        return False
    return True


class RawClient:
    """`async with RawClient(url) as client: await client.put(queue, table, body)`."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)

    async def __aenter__(self) -> RawClient:
        url = self._url
        self._reader, self._writer = await asyncio.open_connection(url.hostname, url.port)
        self._writer.write(b"AMQP\x00\x00\x09\x01")
        await self._next(Connection.Start)
        self._say(0, Connection.StartOk({}, "PLAIN", f"\0{url.username}\0{url.password}", "en_US"))
        tune = await self._next(Connection.Tune)
        self._say(0, Connection.TuneOk(tune.channel_max, tune.frame_max, 0))
        self._say(0, Connection.Open("/"))
        await self._next(Connection.OpenOk)
        self._say(1, Channel.Open())
        await self._next(Channel.OpenOk)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    def _say(self, channel: int, method: Any) -> None:
        self._writer.write(frame.marshal(method, channel))

    async def _next(self, wanted: type[Any]) -> Any:
        while True:
            head = await self._reader.readexactly(7)
            body = await self._reader.readexactly(struct.unpack(">I", head[3:])[0] + 1)
            _, _, found = frame.unmarshal(head + body)
            if isinstance(found, wanted):
                return found
            assert not isinstance(found, (Connection.Close, Channel.Close)), dict(found)

    async def delete(self, queue: str) -> None:
        """Delete a queue, whoever reads it; it is gone when this returns."""
        self._say(1, Queue.Delete(queue=queue))
        await self._next(Queue.DeleteOk)

    async def put(self, queue: str, table: bytes, body: bytes, kind: bytes = b"application/json") -> None:
        """Publish to a queue; it is there when this returns."""
        self._say(1, Basic.Publish(exchange="", routing_key=queue))
        properties = struct.pack(">HB", 0xA000, len(kind)) + kind + struct.pack(">I", len(table)) + table
        head = struct.pack(">HHQ", 60, 0, len(body)) + properties
        self._writer.write(b"\x02\0\1" + struct.pack(">I", len(head)) + head + b"\xce")
        self._writer.write(b"\x03\0\1" + struct.pack(">I", len(body)) + body + b"\xce")
        self._say(1, Queue.Declare(queue=queue, passive=True))
        await self._next(Queue.DeclareOk)

"""What a raw client may put into a stream, and msgbus would never write: aggregates and envelopes that lie."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping
from typing import NamedTuple

from msgbus.brokers.aws import AwsClient, AwsSettings
from msgbus.brokers.kinesis.aggregation import FRAME, MAGIC, UserRecord, encode
from msgbus.brokers.kinesis.batching import CHECKED, GROUP_TAG
from msgbus.message import Source
from msgbus.testing.conformance.oddities import FORGED

BODY = b'{"key": "odd", "number": 0}'
_MEGABYTE = 1024 * 1024 - 256  # beside it there is room for the key


class Odd(NamedTuple):
    """One record. `messages`: how many come out of it, for those whom it concerns."""

    data: bytes
    messages: int = 1
    key: str = "odd"


def aggregate(*tags: tuple[str, str], explicit: str = "", key: str = "odd", data: bytes = BODY) -> bytes:
    """One with a single record."""
    return encode([UserRecord(key, data, explicit, tags)])


def framed(message: bytes) -> bytes:
    """An aggregate of these bytes of protobuf, whatever they are; the sum is right."""
    return MAGIC + message + hashlib.md5(message, usedforsecurity=False).digest()


def envelope(size: object = len(BODY), data: bytes = BODY, **attributes: object) -> bytes:
    """As ours begins."""
    given = {"specversion": "1.0", "id": "i", "source": "s", "type": "t", **attributes}
    return json.dumps(given, separators=(",", ":")).encode()[:-1] + b',"msgbussize":%b,"data":%b}' % (
        str(size).encode(),
        data,
    )


_GOOD = aggregate()

_AGGREGATES: Mapping[str, Odd] = {
    "an explicit hash key that is no number": Odd(aggregate(CHECKED, explicit="abc")),
    "an explicit hash key of another script": Odd(aggregate(CHECKED, explicit="\u00b2")),
    "an explicit hash key below all": Odd(aggregate(CHECKED, explicit="-1")),
    "an explicit hash key beyond all": Odd(aggregate(CHECKED, explicit="9" * 5000)),
    "the same without our tag": Odd(aggregate(explicit="abc")),
    "a wrong sum": Odd(_GOOD[:-1] + bytes((_GOOD[-1] ^ 1,))),
    "no end": Odd(_GOOD[:-20]),
    "magic alone": Odd(MAGIC),
    "no sum": Odd(MAGIC + b"x" * (FRAME - len(MAGIC) - 1)),
    "no records": Odd(encode([]), messages=0),
    "no data": Odd(aggregate(data=b"")),
    "an empty key": Odd(aggregate(key="")),
    "a key that is no text": Odd(framed(b"\x0a\x01\xff\x1a\x05\x08\x00\x1a\x01x")),
    "an index beyond the keys": Odd(framed(b"\x0a\x01k\x1a\x05\x08\x09\x1a\x01x")),
    "an index beyond the hash keys": Odd(framed(b"\x0a\x01k\x1a\x07\x08\x00\x10\x09\x1a\x01x")),
    "an index of 64 bits": Odd(framed(b"\x0a\x01k\x1a\x0e\x08" + b"\xff" * 9 + b"\x01\x1a\x01x")),
    "a record without data": Odd(framed(b"\x0a\x01k\x1a\x02\x08\x00")),
    "a record without anything": Odd(framed(b"\x0a\x01k\x1a\x00")),
    "a number without end": Odd(framed(b"\xff" * 30)),
    "a group": Odd(framed(b"\x0b\x0c")),
    "a field beyond the end": Odd(framed(b"\x0a\x7fk")),
    "other fields": Odd(framed(b"\x0a\x01k\x28\x05\x31" + b"\0" * 8 + b"\x1a\x05\x08\x00\x1a\x01x")),
    "an aggregate in it": Odd(aggregate(data=_GOOD)),
    "for another group": Odd(aggregate((GROUP_TAG, "other")), messages=0),
    "two groups": Odd(aggregate((GROUP_TAG, "g"), (GROUP_TAG, "other")), messages=0),
    "a tag of nothing": Odd(framed(b"\x0a\x01k\x1a\x07\x08\x00\x1a\x01x\x22\x00")),
    "a thousand empty records": Odd(encode([UserRecord("odd", b"")] * 1000), messages=1000),
    "more records than anyone means": Odd(encode([UserRecord("odd", b"")] * 150_000)),
}

_EVENTS: Mapping[str, Odd] = {
    "a size that is too small": Odd(envelope(3)),
    "a size that is too large": Odd(envelope(10**6)),
    "a size below all": Odd(envelope(-1)),
    "a size that is no number": Odd(envelope("null")),
    "a size of 5,000 digits": Odd(envelope("9" * 5000)),
    "an event of objects": Odd(envelope(id={"a": 1}, type=[], time=5, partitionkey=None)),
    "an event whose data is none": Odd(envelope(data=b"")),
    "half a surrogate pair": Odd(envelope(id="\ud800", source="\udfff")),
    "half an event": Odd(envelope()[:-10]),
    "its beginning alone": Odd(b'{"specversion":"1.0"'),
    "no base64": Odd(b'{"specversion":"1.0","id":"i","source":"s","type":"t","data_base64":"!"}'),
    "headers that are a list": Odd(envelope(msgbusheaders="[1]")),
    "headers that are no JSON": Odd(envelope(msgbusheaders="{")),
    "headers that are an object": Odd(envelope(msgbusheaders={"a": 1})),
    "headers nested deep": Odd(envelope(msgbusheaders="[" * 50_000)),
    "an event in an event": Odd(envelope(len(envelope()), envelope(), datacontenttype="application/cloudevents+json")),
    "events": Odd(b"[" + envelope() + b"," + envelope() + b"]"),
    "nested": Odd(b"[" * 50_000),
}

_BYTES: Mapping[str, Odd] = {
    "nothing": Odd(b""),
    "NUL": Odd(b"\0"),
    "no UTF-8": Odd(b"\xff\xfe\xfd"),
    "UTF-16": Odd(BODY.decode().encode("utf-16")),
    "compressed": Odd(gzip.compress(BODY)),
    "a megabyte": Odd(BODY[:-1] + b" " * (_MEGABYTE - len(BODY)) + b"}"),
    "a megabyte of NUL": Odd(b"\0" * _MEGABYTE),
    "a megabyte that opens": Odd(b"[" * _MEGABYTE),
    "a key of 256 characters": Odd(BODY, key="\U0001f680" * 256),
    "a key with control characters": Odd(BODY, key="a\0\n\x1b"),
}

_FORGED = {
    f"forged {number}": Odd(envelope(msgbusheaders=json.dumps(headers))) for number, headers in enumerate(FORGED)
}

ODD: Mapping[str, Odd] = {**_AGGREGATES, **_EVENTS, **_BYTES, **_FORGED}
"""All of these are taken by Kinesis."""


async def put(endpoint: str, source: Source, odd: Mapping[str, Odd] = ODD) -> int:
    """Put them into a stream; how many messages come out of them. They are there when this returns."""
    async with AwsClient(AwsSettings(region="us-east-1", endpoint=endpoint)) as client:
        for each in odd.values():
            record = {"StreamName": source.name, "Data": each.data, "PartitionKey": each.key}
            await client.call("kinesis", "PutRecord", record)
    return sum(each.messages for each in odd.values())

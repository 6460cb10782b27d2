"""Several user records in one Kinesis record, as the Kinesis Producer Library writes them. Sans-IO.

Source: aggregation-format.md of the Kinesis Producer Library: 4 bytes of magic, an AggregatedRecord in protobuf (a
table of partition keys, a table of explicit hash keys, the records with indexes into both), and the MD5 of that.
What has the magic and not the right MD5 is an ordinary record. The format sets no limit to their number: one megabyte
holds 170,000 empty ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgbus.errors import DecodeError

MAGIC = b"\xf3\x89\x9a\xc2"
FRAME = len(MAGIC) + 16
"""Bytes around the protobuf part."""

_MD5 = 16
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class UserRecord(NamedTuple):
    """One record inside an aggregate. `explicit`: its explicit hash key, "" for none; `tags`: name and value."""

    key: str
    data: bytes
    explicit: str = ""
    tags: tuple[tuple[str, str], ...] = ()


def size_of(record: UserRecord) -> int:
    """What a record adds to an aggregate, at most."""
    tags = sum(len(name.encode()) + len(value.encode()) + 8 for name, value in record.tags)
    return len(record.key.encode()) + len(record.explicit) + len(record.data) + tags + 30


def encode(records: Sequence[UserRecord]) -> bytes:
    """The data of one Kinesis record."""
    keys: dict[str, int] = {}
    hashes: dict[str, int] = {}
    parts: list[bytes] = []
    for record in records:
        head = b"\x08" + _varint(keys.setdefault(record.key, len(keys)))
        if record.explicit:
            head += b"\x10" + _varint(hashes.setdefault(record.explicit, len(hashes)))
        head += b"\x1a" + _varint(len(record.data))
        tags = b"".join([_field(4, _text(1, name) + _text(2, value)) for name, value in record.tags])
        parts += (b"\x1a" + _varint(len(head) + len(record.data) + len(tags)) + head, record.data, tags)
    tables = [*(_text(1, key) for key in keys), *(_text(2, explicit) for explicit in hashes)]
    message = b"".join(tables + parts)
    return b"%b%b%b" % (MAGIC, message, _md5(message))


def decode(data: bytes, most: int = 1 << 62) -> list[UserRecord] | None:
    """The user records of an aggregate, None where it is an ordinary record. Raises DecodeError for over `most`."""
    if not data.startswith(MAGIC) or len(data) < FRAME:
        return None
    message = data[len(MAGIC) : -_MD5]
    if _md5(message) != data[-_MD5:]:
        return None
    try:
        return _records(message, most)
    except (ValueError, IndexError):  # the sum is right and the content is not: whoever wrote it meant something else
        return None


def _records(message: bytes, most: int) -> list[UserRecord]:
    keys: list[str] = []
    hashes: list[str] = []
    records: list[UserRecord | bytes] = []
    for number, value in _fields(message):
        if not isinstance(value, bytes):
            continue
        if number == 1:
            keys.append(value.decode())
        elif number == 2:
            hashes.append(value.decode())
        elif number == 3:
            if len(records) == most:
                raise DecodeError(
                    f"an aggregate of more than {most:,} records, which is the option aggregate_records: raise it, or"
                    " have its producer put fewer into one"
                )
            records.append(_plain(value, keys) or value)
    return [record if isinstance(record, UserRecord) else _record(record, keys, hashes) for record in records]


def _plain(body: bytes, keys: Sequence[str]) -> UserRecord | None:
    """A record of a key that is known by now and data, in this order and nothing else: by far the usual case."""
    if body[0] != 0x08:
        return None
    key, at = _read_varint(body, 1)
    if body[at] != 0x1A or key >= len(keys):
        return None
    size, at = _read_varint(body, at + 1)
    return UserRecord(keys[key], body[at:]) if at + size == len(body) else None


def _record(body: bytes, keys: Sequence[str], hashes: Sequence[str]) -> UserRecord:
    key: int | None = None
    explicit, data = "", None
    tags: list[tuple[str, str]] = []
    for number, value in _fields(body):
        if number == 1 and isinstance(value, int):
            key = value
        elif number == 2 and isinstance(value, int):
            explicit = hashes[value]
        elif number == 3 and isinstance(value, bytes):
            data = value
        elif number == 4 and isinstance(value, bytes):
            tags.append(_tag(value))
    if key is None or data is None:
        raise ValueError("a record without a key or without data")
    return UserRecord(keys[key], data, explicit, tuple(tags))


def _tag(body: bytes) -> tuple[str, str]:
    found = {number: value.decode() for number, value in _fields(body) if isinstance(value, bytes)}
    return found.get(1, ""), found.get(2, "")


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field; fixed-width ones, which the format has not, are passed over."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _read_varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _read_varint(message, at)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            size, at = _read_varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"no such wire type: {kind}")
        if at + size > end:
            raise ValueError("a field beyond the end")
        if kind == _BYTES:
            yield tag >> 3, message[at : at + size]
        at += size


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    if message[at] < 0x80:
        return message[at], at + 1
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number that is too long")


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def _field(number: int, value: bytes) -> bytes:
    return bytes((number << 3 | _BYTES,)) + _varint(len(value)) + value


def _text(number: int, value: str) -> bytes:
    return _field(number, value.encode())


def _md5(message: bytes) -> bytes:
    return hashlib.md5(message, usedforsecurity=False).digest()

"""What stands before a body and names its schema, to the byte, as Confluent's, AWS Glue's and Avro's clients write it.

Pure functions without a registry: a `*_prefix` makes what goes before the body, a `read_*` takes it off again. What
is no such frame raises DecodeError with the format and the offset. A bare body has no frame and needs none of this.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

from msgbus.errors import ConfigError, DecodeError

S = TypeVar("S")

MAX_INDEXES = 100
"""Deepest nesting of a protobuf message type that is read or written; protobuf's own limit for messages."""
_MAX_ID = 2**32 - 1
_MAX_INDEX = 2**31 - 1
_CONFLUENT = struct.Struct(">BI")
_SINGLE_OBJECT = b"\xc3\x01"
_GLUE_PLAIN, _GLUE_ZLIB = b"\x03\x00", b"\x03\x05"


class Framed(NamedTuple, Generic[S]):
    """What a frame says: its `schema` (an id of the registry, or a fingerprint) and the `body` behind the prefix."""

    schema: S
    body: bytes


def confluent_prefix(schema: int | UUID) -> bytes:
    """Five bytes for an id of 32 bits, 17 for a GUID. Raises ConfigError for an id out of range."""
    if isinstance(schema, UUID):
        return b"\x01" + schema.bytes
    return _CONFLUENT.pack(0, _within(schema, _MAX_ID, "Confluent schema id"))


def read_confluent(data: bytes) -> Framed[int | UUID]:
    """Take off an id (magic byte 0) or a GUID (magic byte 1). Raises DecodeError."""
    magic = data[:1]
    if magic == b"\x00":
        _long_enough(data, 5, "Confluent")
        return Framed(int.from_bytes(data[1:5], "big"), data[5:])
    if magic == b"\x01":
        _long_enough(data, 17, "Confluent")
        return Framed(UUID(bytes=data[1:17]), data[17:])
    raise _wrong_magic(magic, "Confluent", "00 or 01")


def glue_prefix(version: UUID) -> bytes:
    """The 18 bytes before an uncompressed body; `version` is the id of the schema version."""
    return _GLUE_PLAIN + version.bytes


def read_glue(data: bytes, *, max_bytes: int = 16 * 1024 * 1024) -> Framed[UUID]:
    """Take off the schema version's id and inflate what zlib deflated, to `max_bytes` at most (16 MiB).

    Raises DecodeError, also where the compressed stream is broken, cut short, too large or has bytes behind it.
    """
    magic = data[:2]
    if not (_GLUE_PLAIN.startswith(magic) or magic == _GLUE_ZLIB):
        raise _wrong_magic(magic, "Glue", "03 00 or 03 05")
    _long_enough(data, 18, "Glue")
    body = data[18:]
    return Framed(UUID(bytes=data[2:18]), _inflate(body, max_bytes) if magic == _GLUE_ZLIB else body)


def single_object_prefix(fingerprint: int) -> bytes:
    """Avro's ten bytes for a CRC-64-AVRO fingerprint, an unsigned 64-bit number. Raises ConfigError out of range."""
    return _SINGLE_OBJECT + _within(fingerprint, 2**64 - 1, "Avro fingerprint").to_bytes(8, "little")


def read_single_object(data: bytes) -> Framed[int]:
    """Take off the fingerprint. Raises DecodeError."""
    if not _SINGLE_OBJECT.startswith(data[:2]):
        raise _wrong_magic(data[:2], "Avro single-object", "c3 01")
    _long_enough(data, 10, "Avro single-object")
    return Framed(int.from_bytes(data[2:10], "little"), data[10:])


def indexes_prefix(indexes: Sequence[int]) -> bytes:
    """Where a protobuf message type stands in its file, as Confluent writes it behind the id: (1, 0) is the first type
    in the second one. Raises ConfigError for none, more than MAX_INDEXES, or one out of range.
    """
    if not 1 <= len(indexes) <= MAX_INDEXES:
        raise ConfigError(f"Confluent message indexes: {len(indexes)} of them, allowed are 1 to {MAX_INDEXES}")
    if list(indexes) == [0]:
        return b"\x00"  # most files have one message, and theirs is the short form
    numbers = [len(indexes), *(_within(index, _MAX_INDEX, "Confluent message index") for index in indexes)]
    return b"".join(_varint(number << 1) for number in numbers)


def read_indexes(data: bytes) -> Framed[tuple[int, ...]]:
    """Take off Confluent's message indexes, `schema` of what is returned. Raises DecodeError."""
    count, at = _read_index(data, 0)
    if count > MAX_INDEXES:
        raise DecodeError(f"Confluent message indexes: {count} of them at offset 0, allowed are {MAX_INDEXES}")
    found: list[int] = []
    for _ in range(count):
        index, at = _read_index(data, at)
        found.append(index)
    return Framed(tuple(found) or (0,), data[at:])


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_index(data: bytes, start: int) -> tuple[int, int]:
    """A zigzag varint of 32 bits in its shortest form that is not negative, and the offset behind it."""
    number = 0
    for place, byte in enumerate(data[start : start + 5]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            if number & 1 or number > 2 * _MAX_INDEX or (place and not byte):
                break
            return number >> 1, start + place + 1
    else:
        _long_enough(data, start + 5, "Confluent message indexes")
    raise DecodeError(f"Confluent message indexes: negative, too large or overlong number at offset {start}")


def _inflate(body: bytes, max_bytes: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise DecodeError(f"Glue frame: the zlib stream at offset 18 is broken ({error})") from error
    if len(plain) > max_bytes:
        raise DecodeError(f"Glue frame: the body inflates to more than {max_bytes} bytes; raise max_bytes to take it")
    if not stream.eof or stream.unused_data:
        what = "has bytes behind it" if stream.eof else "is cut short"
        raise DecodeError(f"Glue frame: the zlib stream at offset 18 {what}")
    return plain


def _within(number: int, largest: int, what: str) -> int:
    if not 0 <= number <= largest:
        raise ConfigError(f"{what} {number}: allowed are 0 to {largest}")
    return number


def _long_enough(data: bytes, needed: int, what: str) -> None:
    if len(data) < needed:
        raise DecodeError(f"{what} frame: cut short, {needed} bytes needed and {len(data)} there")


def _wrong_magic(magic: bytes, what: str, expected: str) -> DecodeError:
    found = magic.hex(" ") or "nothing"
    return DecodeError(
        f"{what} frame: starts with {found} at offset 0, not {expected}; was it written without a frame?"
    )

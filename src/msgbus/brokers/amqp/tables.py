"""Values in header tables that are no long strings: read to their end whatever they are, never deeper than they need.

Types and sizes as RabbitMQ has them: https://www.rabbitmq.com/amqp-0-9-1-errata.html, section 3.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

_FIXED = {
    kind: struct.Struct(">" + form)
    for kind, form in (
        *(("t", "?"), ("b", "b"), ("B", "B"), ("s", "h"), ("u", "H"), ("I", "i"), ("i", "I"), ("l", "q"), ("L", "q")),
        *(("f", "f"), ("d", "d"), ("D", "Bi"), ("T", "Q"), ("V", ""), ("\0", "")),
    )
}
_SIZED = frozenset("SxAF")  # a length of four bytes, and so many
_LENGTH = struct.Struct(">I")
_DEEPEST = 20  # what lies deeper is passed over


def read_value(data: bytes, at: int, end: int, depth: int = 0) -> tuple[Any, int]:
    """The value whose type is at `at`, and where it ends. Raises ValueError where it has no known type, or no room."""
    kind = chr(data[at])
    if (fixed := _FIXED.get(kind)) is not None:
        stop = at + 1 + fixed.size
        return (_fixed(kind, fixed.unpack_from(data, at + 1)) if stop <= end else _short(kind)), stop
    if kind not in _SIZED:
        raise ValueError(f"a header of the unknown type {kind!a}")
    start = at + 5
    stop = start + int(_LENGTH.unpack_from(data, at + 1)[0]) if start <= end else end + 1
    if stop > end:
        _short(kind)
    return _sized(kind, data, start, stop, depth), stop


def _short(kind: str) -> Any:
    raise ValueError(f"a header of type {kind!a} is longer than what it is in")


def _fixed(kind: str, values: tuple[Any, ...]) -> Any:
    if kind == "D":
        scale, digits = values
        return Decimal(digits).scaleb(-scale)
    if kind == "T":
        return _moment(values[0])
    return values[0] if values else None


def _moment(seconds: int) -> datetime | int:
    """Some write milli- or microseconds there: the number, which is more than a year of five digits."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return seconds - 2**64 if seconds >= 2**63 else seconds


def _sized(kind: str, data: bytes, start: int, stop: int, depth: int) -> Any:
    if kind == "S":
        return data[start:stop].decode("utf-8", "replace")
    if kind == "x":
        return data[start:stop]
    if depth == _DEEPEST:
        return f"({stop - start} bytes, nested too deep)"
    return (_array if kind == "A" else read_table)(data, start, stop, depth + 1)


def _array(data: bytes, at: int, end: int, depth: int) -> list[Any]:
    values: list[Any] = []
    while at < end:
        value, at = read_value(data, at, end, depth)
        values.append(value)
    return values


def read_table(data: bytes, at: int, end: int, depth: int = 0) -> dict[str, Any]:
    """The entries between `at` and `end`. Raises ValueError."""
    entries: dict[str, Any] = {}
    while at < end:
        stop = at + 1 + data[at]
        if stop >= end:
            _short("F")
        entries[data[at + 1 : stop].decode("utf-8", "replace")], at = read_value(data, stop, end, depth)
    return entries

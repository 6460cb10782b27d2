"""What generated code calls where a value is not of the simplest sort: numbers, times, decimals."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterable, Mapping
from decimal import Context, Decimal
from typing import Any, NoReturn

MAX_DEPTH = 100
"""Records in records, of a message."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_LOCAL = dt.datetime(1970, 1, 1)
_FIRST_DAY = _EPOCH.toordinal()
_MICRO = dt.timedelta(microseconds=1)
_EXACT = Context(prec=11_000)


def fail(what: str) -> NoReturn:
    """What is wrong; where, is known from the line that called."""
    raise ValueError(what)


def write_long(out: bytearray, number: int) -> None:
    """A varint of a number that is zigzag already."""
    if number >> 64:
        fail("the number has more than 64 bits")
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)


def whole(value: Any) -> int:
    """An int, of a class beneath it too, but no bool."""
    if isinstance(value, bool) or not isinstance(value, int):
        fail(f"a whole number is expected, not {type(value).__name__}")
    return int(value)


def real(value: Any) -> float:
    """A float, or an int that is one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        fail(f"a number is expected, not {type(value).__name__}")
    return float(value)


def octets(value: Any) -> bytes:
    """Bytes of any sort."""
    if not isinstance(value, (bytes, bytearray, memoryview)):
        fail(f"bytes are expected, not {type(value).__name__}")
    return bytes(value)


def encoded(value: Any) -> bytes:
    """Text in UTF-8."""
    if not isinstance(value, str):
        fail(f"text is expected, not {type(value).__name__}")
    return value.encode()


def items(value: Any) -> list[Any]:
    """A list of what can be walked through, but no text."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        fail(f"a list is expected, not {type(value).__name__}")
    return list(value)


def mapping(value: Any) -> dict[Any, Any]:
    """A dict of any Mapping."""
    if not isinstance(value, Mapping):
        fail(f"a dict is expected, not {type(value).__name__}")
    return dict(value)


def value_of(value: Any) -> Any:
    """What travels of an Enum."""
    return value.value if isinstance(value, enum.Enum) else value


def to_timestamp(value: dt.datetime) -> int:
    """Microseconds since 1970, of an aware time."""
    if value.tzinfo is None:
        fail("a time without a zone: make it aware, or declare the field as NaiveDatetime")
    return (value - _EPOCH) // _MICRO


def to_local(value: dt.datetime) -> int:
    """Microseconds since 1970, of a time without a zone."""
    if value.tzinfo is not None:
        fail("a time with a zone, where one without is declared")
    return (value - _LOCAL) // _MICRO


def to_day(value: dt.date) -> int:
    """Days since 1970."""
    if isinstance(value, dt.datetime):
        fail("a date is expected, not a datetime")
    return value.toordinal() - _FIRST_DAY


def to_time(value: dt.time) -> int:
    """Microseconds since midnight."""
    if value.tzinfo is not None:
        fail("a time of day with a zone has no form in Avro")
    return ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond


def to_lasting(value: dt.timedelta) -> int:
    """Microseconds."""
    return value // _MICRO


def to_digits(value: Any, precision: int, scale: int) -> bytes:
    """A decimal's digits as a big-endian number. Nothing is rounded."""
    if not isinstance(value, Decimal) or not value.is_finite():
        fail(f"a finite Decimal is expected, not {value!r:.50}")
    exponent = value.as_tuple().exponent
    if (value and value.adjusted() + scale >= precision) or -int(exponent) > 11_000 or int(exponent) > 11_000:
        fail(f"it has more than {precision} digits, {scale} of them behind the point")
    upper, lower = value.as_integer_ratio()
    number, rest = divmod(upper * int(10**scale), lower)
    if rest:
        fail(f"it has more than {scale} digits behind the point")
    return number.to_bytes((number if number >= 0 else ~number).bit_length() // 8 + 1, "big", signed=True)


def from_digits(data: bytes, limit: int, scale: int) -> Decimal:
    """`limit`: the smallest number that has too many digits."""
    number = int.from_bytes(data, "big", signed=True)
    if not -limit < number < limit:
        fail("a decimal with more digits than its schema allows")
    return Decimal(number).scaleb(-scale, _EXACT)


def from_timestamp(micros: int) -> dt.datetime:
    """An aware time, in UTC."""
    return _EPOCH + dt.timedelta(0, 0, micros)


def from_local(micros: int) -> dt.datetime:
    """A time without a zone."""
    return _LOCAL + dt.timedelta(0, 0, micros)


def from_day(days: int) -> dt.date:
    """A date."""
    return dt.date.fromordinal(days + _FIRST_DAY)


def from_time(micros: int) -> dt.time:
    """A time of day."""
    if not 0 <= micros < 86_400_000_000:
        fail("a time of day that no day has")
    return (_LOCAL + dt.timedelta(0, 0, micros)).time()


def from_lasting(micros: int) -> dt.timedelta:
    """A timedelta."""
    return dt.timedelta(0, 0, micros)


def read_long(data: bytes, at: int, first: int) -> tuple[int, int]:
    """A varint that goes on after its first byte, zigzag still, and the offset behind it."""
    number, shift = first & 127, 7
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
        if shift > 63:
            fail("a number of more than ten bytes")
    if number >> 64 or not byte:
        fail("a number of more than 64 bits, or longer than it need be")
    return number, at


def read_size(data: bytes, at: int, first: int) -> tuple[int, int]:
    """A length, zigzag still, that is not of one byte, or negative."""
    number, at = read_long(data, at, first) if first > 127 else (first, at)
    if number & 1:
        fail("a length that is negative")
    return number, at


def read_block(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """How many items follow, the offset of the first, and the one behind the last, or -1 where it isn't told."""
    number, at = _read(data, at)
    behind = -1
    if number & 1:
        number = (number >> 1) + 1 << 1
        size, at = _read(data, at)
        behind = at + (size >> 1)
        if size & 1 or behind > end:
            fail("a block that is longer than the body")
    count = number >> 1
    if count > end - at:  # each takes a byte at least
        fail(f"{count:,} items are said to follow, and {end - at:,} bytes do")
    return count, at, behind


def _read(data: bytes, at: int) -> tuple[int, int]:
    first = data[at]
    return read_long(data, at + 1, first) if first > 127 else (first, at + 1)

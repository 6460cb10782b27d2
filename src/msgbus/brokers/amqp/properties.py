"""Headers as AMQP properties and back. The names are those that FastStream and aio-pika use.

Property -> header: content_type `content-type`, content_encoding `content-encoding`, correlation_id
`correlation_id`, reply_to `reply_to`, message_id `ce-id`, type `ce-type`. All other headers are long strings in the
header table, and so are `ce-id` and `ce-type` once more: the binding of CloudEvents for AMQP 0-9-1 looks for every
attribute there (https://github.com/knative-extensions/eventing-rabbitmq/blob/main/cloudevents-protocol-spec/spec.md).
A value that is too long for a property (255 bytes of UTF-8) goes into the table alone.
"""

from __future__ import annotations

import json
import struct
from datetime import datetime
from decimal import Decimal
from typing import Any

from pamqp.commands import Basic

from msgbus import headers as h
from msgbus.brokers.amqp.tables import read_value
from msgbus.brokers.amqp.wire import Arrived, Publication
from msgbus.brokers.mq.rabbitmq import DELIVERY_COUNT, OWN
from msgbus.errors import DecodeError

CONTENT_ENCODING = "content-encoding"
NATIVE = {  # header -> property, in the order of the wire
    h.CONTENT_TYPE: "content_type",
    CONTENT_ENCODING: "content_encoding",
    h.CORRELATION: "correlation_id",
    h.REPLY_TO: "reply_to",
    h.ID: "message_id",
    h.TYPE: "message_type",  # pamqp's name of the property `type`
}
HEADER = {name: header for header, name in NATIVE.items()}
TABLE_WINS = h.EVENT  # a foreign producer that writes CloudEvents headers means those
ROUTING = frozenset(("CC", "BCC"))
"""Headers that RabbitMQ obeys (https://www.rabbitmq.com/docs/sender-selected): they travel under another name."""

_ESCAPED = "msgbus-own-"
SHORT = 255  # bytes of a shortstr
PERSISTENT = 2

_FLAGS = {name: bit for name, bit in Basic.Properties.flags.items() if name != "cluster_id"}
_LONG = struct.Struct(">I")
_TIME = struct.Struct(">Q")
_unpack_long = _LONG.unpack_from
_pack_long = _LONG.pack
_STRING = 0x53  # "S": a long string, the type of every header that we write


# -- reading

_Step = tuple[int, str]  # what to read, and what it is called
_SHORT_ALWAYS, _SHORT_UNLESS, _TABLE, _OCTET, _TIMESTAMP, _SHORT_EXTRA, _OCTET_EXTRA = range(7)
_plans: dict[int, tuple[_Step, ...]] = {}
_names: dict[bytes, str] = {}
_MOST_NAMES = 10_000


def _step(name: str) -> _Step:
    if name in HEADER:
        header = HEADER[name]
        return (_SHORT_UNLESS if header in TABLE_WINS else _SHORT_ALWAYS), header
    kinds = {"headers": _TABLE, "delivery_mode": _OCTET, "priority": _OCTET_EXTRA, "timestamp": _TIMESTAMP}
    return kinds.get(name, _SHORT_EXTRA), name


def _plan(flags: int) -> tuple[_Step, ...]:
    if flags & 3:
        raise ValueError(f"property flags {flags:#x} are not of AMQP 0-9-1")
    steps = tuple(_step(name) for name in Basic.Properties.attributes() if flags & Basic.Properties.flags[name])
    _plans[flags] = steps
    return steps


def read_properties(data: bytes, at: int, stop: int, arrived: Arrived) -> None:
    """Read the flags and properties between `at` and `stop` into headers, timestamp and extras.

    What can't be read is the message's fault, and harms nothing else: its frame ends where it says.
    """
    arrived.headers, arrived.timestamp, arrived.extras = {}, None, None
    try:
        if _read(data, at, stop, arrived) > stop:
            raise ValueError("properties are longer than their frame")
    except (ValueError, IndexError, struct.error) as error:
        arrived.fault = DecodeError(f"properties that can't be read: {error}")
        arrived.fault.__cause__ = error


def _read(data: bytes, at: int, stop: int, arrived: Arrived) -> int:
    headers = arrived.headers
    flags = data[at] << 8 | data[at + 1]
    at += 2
    for kind, name in _plans.get(flags) or _plan(flags):
        if kind <= _SHORT_UNLESS:
            end = at + 1 + data[at]
            if kind == _SHORT_ALWAYS or name not in headers:
                headers[name] = data[at + 1 : end].decode("utf-8", "replace")
            at = end
        elif kind == _TABLE:
            at = _read_table(data, at, stop, arrived)
        else:
            at = _read_other(data, at, kind, name, arrived)
    return at


def _read_other(data: bytes, at: int, kind: int, name: str, arrived: Arrived) -> int:
    if kind == _OCTET:
        return at + 1
    if kind == _TIMESTAMP:
        arrived.timestamp = _TIME.unpack_from(data, at)[0]
        return at + 8
    if kind == _OCTET_EXTRA:
        extra(arrived, name, data[at])
        return at + 1
    end = at + 1 + data[at]
    extra(arrived, name, data[at + 1 : end].decode("utf-8", "replace"))
    return end


def _read_table(data: bytes, at: int, most: int, arrived: Arrived) -> int:
    headers, names = arrived.headers, _names
    end: int = at + 4 + _unpack_long(data, at)[0]
    if end > most:  # before anything of it is read: behind its frame lie others, each of which may say the same
        raise ValueError("a header table is longer than its frame")
    at += 4
    while at < end:
        stop = at + 1 + data[at]
        raw = data[at + 1 : stop]
        name = names.get(raw) or _name(raw)
        if data[stop] == _STRING:
            at = stop + 5 + _unpack_long(data, stop + 1)[0]
            if at > end:
                break
            try:
                headers[name] = data[stop + 5 : at].decode()
            except UnicodeDecodeError:
                put_foreign(arrived, name, data[stop + 5 : at], data[stop:at])
        else:
            value, at = read_value(data, stop, end)
            put_foreign(arrived, name, value, data[stop:at])
    if at != end:
        raise ValueError("a header table is longer than it says")
    return end


def _name(raw: bytes) -> str:
    name = own_name(raw.decode("utf-8", "replace"))
    if len(_names) < _MOST_NAMES:
        _names[raw] = name
    return name


def own_name(name: str) -> str:
    """What a header is called here that has another name on the wire."""
    return name.removeprefix(_ESCAPED) if name.removeprefix(_ESCAPED) in ROUTING else h.event_name(name)


def wire_name(name: str) -> str:
    """What a header is called on the wire: the server sends a message on to what some say."""
    return _ESCAPED + name if name in ROUTING else name


def put_foreign(arrived: Arrived, name: str, value: Any, native: Any) -> None:
    """A header that is no text: as text where it is the application's, as it is where it is the server's own.

    `native`: how the wire writes it, for copies.
    """
    if name.startswith(OWN) and not isinstance(value, str | bytes):
        extra(arrived, name, value)
        if name == DELIVERY_COUNT and isinstance(value, int):
            arrived.deliveries = 1 + value
        return
    text = text_of(value)
    if text is not None:
        arrived.headers[name] = text
    if arrived.typed is None:
        arrived.typed = {}
    arrived.typed[name] = native


def text_of(value: Any) -> str | None:
    """A foreign header's value as text: JSON for what is no string, None for nothing."""
    if value is None or isinstance(value, str):
        return value
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain, default=_plain)


def _plain(value: Any) -> Any:
    """What JSON has not, as text."""
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def extra(arrived: Arrived, name: str, value: Any) -> None:
    """Note what is no header."""
    if arrived.extras is None:
        arrived.extras = {}
    arrived.extras[name] = value


# -- writing

_TABLE_FLAG, _MODE_FLAG, _TIME_FLAG = _FLAGS["headers"], _FLAGS["delivery_mode"], _FLAGS["timestamp"]
_prefixes: dict[str, bytes] = {}  # a header's name with its length and type
_shorts: dict[str, bytes] = {}  # values that come again and again: content types and event types
_REPEATED = (h.CONTENT_TYPE, h.TYPE)


def prefix(name: str) -> bytes:
    """A name in a table, and the type of its text. Raises ValueError where it is too long."""
    raw = wire_name(name).encode()
    if len(raw) > SHORT:
        raise ValueError(f"the header name {name[:40]!r}... has {len(raw)} bytes, AMQP allows {SHORT}")
    made = bytes((len(raw),)) + raw + b"S"
    if len(_prefixes) < _MOST_NAMES:
        _prefixes[name] = made
    return made


def _short(value: str) -> bytes | None:
    raw = value.encode()
    return bytes((len(raw),)) + raw if len(raw) <= SHORT else None


def _repeated(value: str) -> bytes | None:
    made = _short(value)
    if made is not None and len(_shorts) < _MOST_NAMES:
        _shorts[value] = made
    return made


def write_properties(publication: Publication) -> bytes:
    """Flags and properties of a publication, always persistent. Raises ValueError for a name that is too long."""
    table: list[bytes] = []
    native: dict[str, bytes] = {}
    for name, value in publication.headers.items():
        if name in NATIVE:
            short = (_shorts.get(value) or _repeated(value)) if name in _REPEATED else _short(value)
            if short is not None and value:
                native[name] = short
                if name not in TABLE_WINS:
                    continue
        raw = value.encode()
        table.append(_prefixes.get(name) or prefix(name))
        table.append(_pack_long(len(raw)))
        table.append(raw)
    if publication.expiration is not None or publication.typed or publication.app_id or publication.user_id:
        _add_rarer(publication, table, native)
    return _assemble(publication, b"".join(table), native)


def _add_rarer(publication: Publication, table: list[bytes], native: dict[str, bytes]) -> None:
    if publication.expiration is not None:
        native[_EXPIRATION] = _short(str(publication.expiration)) or b""
    for name, text in ((_USER, publication.user_id), (_APP, publication.app_id)):
        if text:
            native[name] = _short(text) or b""
    for name, value in (publication.typed or {}).items():
        table += (prefix(name)[:-1], value)


def _assemble(publication: Publication, table: bytes, native: dict[str, bytes]) -> bytes:
    flags = _MODE_FLAG | _TIME_FLAG
    parts = [b"", native.pop(h.CONTENT_TYPE, b""), native.pop(CONTENT_ENCODING, b"")]
    flags |= (_FLAGS["content_type"] if parts[1] else 0) | (_FLAGS["content_encoding"] if parts[2] else 0)
    if table:
        flags |= _TABLE_FLAG
        parts += (_pack_long(len(table)), table)
    parts.append(b"\x02")
    if publication.priority is not None:
        flags |= _FLAGS["priority"]
        parts.append(bytes((publication.priority,)))
    for header, flag in _BEFORE_ID:
        if header in native:
            flags |= flag
            parts.append(native[header])
    if h.ID in native:
        flags |= _FLAGS["message_id"]
        parts.append(native[h.ID])
    parts.append(_TIME.pack(publication.timestamp))
    for header, flag in _AFTER_TIME:
        if header in native:
            flags |= flag
            parts.append(native[header])
    parts[0] = flags.to_bytes(2, "big")
    return b"".join(parts)


_EXPIRATION, _APP, _USER = "expiration", "app_id", "user_id"
_AFTER_TIME = ((h.TYPE, _FLAGS["message_type"]), (_USER, _FLAGS[_USER]), (_APP, _FLAGS[_APP]))
_BEFORE_ID = tuple(
    (header, _FLAGS[name])
    for header, name in ((h.CORRELATION, "correlation_id"), (h.REPLY_TO, "reply_to"), (_EXPIRATION, "expiration"))
)

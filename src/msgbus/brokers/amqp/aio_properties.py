"""Headers as pamqp's properties and back, for the aio-pika wire: the same as properties.py writes and reads."""

from __future__ import annotations

import struct
from typing import Any

from pamqp import decode
from pamqp.commands import Basic

from msgbus.brokers.amqp.properties import (
    HEADER,
    NATIVE,
    PERSISTENT,
    SHORT,
    TABLE_WINS,
    extra,
    own_name,
    prefix,
    put_foreign,
    wire_name,
)
from msgbus.brokers.amqp.wire import Arrived, Publication

_TIME = struct.Struct(">Q")


def to_pamqp(publication: Publication) -> Basic.Properties:
    """What `write_properties` writes, as pamqp's object. Raises ValueError as it does."""
    native: dict[str, Any] = {}
    table: dict[str, Any] = {}
    for name, value in publication.headers.items():
        if name in NATIVE and value and len(value.encode()) <= SHORT:
            native[NATIVE[name]] = value
            if name not in TABLE_WINS:
                continue
        prefix(name)
        table[wire_name(name)] = value
    table |= {wire_name(name): value for name, value in (publication.typed or {}).items()}
    moment = decode.timestamp(_TIME.pack(publication.timestamp))[1]
    expiration = None if publication.expiration is None else str(publication.expiration)
    return Basic.Properties(
        headers=table or None,
        delivery_mode=PERSISTENT,
        priority=publication.priority,
        expiration=expiration,
        timestamp=moment,
        app_id=publication.app_id or None,
        user_id=publication.user_id or None,
        **native,
    )


def from_pamqp(properties: Basic.Properties, arrived: Arrived) -> None:
    """What `read_properties` reads, from pamqp's object."""
    arrived.headers, arrived.timestamp, arrived.extras = {}, None, None
    for name, value in (properties.headers or {}).items():
        if isinstance(value, str):
            arrived.headers[own_name(name)] = value
        else:
            put_foreign(arrived, own_name(name), value, value)
    if properties.timestamp is not None:
        arrived.timestamp = int(properties.timestamp.timestamp())
    for name, header in HEADER.items():
        text = getattr(properties, name)
        if text and not (header in TABLE_WINS and header in arrived.headers):
            arrived.headers[header] = text
    for name in ("priority", "expiration", "user_id", "app_id"):
        value = getattr(properties, name)
        if value not in (None, ""):
            extra(arrived, name, value)

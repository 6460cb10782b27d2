"""Chunks as Avro object container files (https://avro.apache.org/docs/1.12.0/specification/): the extra `avro`."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import fastavro

from msgbus.archive.record import Archived
from msgbus.envelope.opening import open_delivery
from msgbus.errors import DecodeError
from msgbus.message import Delivery, Source

SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "ArchivedRecord",
    "namespace": "msgbus.archive",
    "doc": "One record of a Kinesis stream, as it was read.",
    "fields": [
        {"name": "stream", "type": "string"},
        {"name": "shard", "type": "string"},
        {"name": "sequence", "type": "string", "doc": "The sequence number, up to 128 bits in decimal digits."},
        {"name": "sub", "type": "long", "doc": "The place in an aggregate, else 0."},
        {"name": "key", "type": "string", "doc": "The partition key."},
        {"name": "time", "type": {"type": "long", "logicalType": "timestamp-micros"}, "doc": "When it arrived."},
        {
            "name": "headers",
            "type": {"type": "map", "values": "string"},
            "doc": "What the envelope in `data` says beside the body: id, type, time, ... Empty where there is none.",
        },
        {"name": "data", "type": "bytes", "doc": "The whole record, envelope included."},
    ],
}

_parsed = fastavro.parse_schema(SCHEMA)
_MICROS = 1_000_000


def encode(name: str, stream: str, records: Sequence[Archived]) -> bytes:
    """The container of a chunk. The same records under the same name are the same bytes: so is the sync marker."""
    file = io.BytesIO()
    marker = hashlib.sha256(name.encode()).digest()[:16]
    entries = ({**record._asdict(), **_more(stream, record)} for record in records)
    fastavro.writer(file, _parsed, entries, codec="deflate", sync_marker=marker)
    return file.getvalue()


def _more(stream: str, record: Archived) -> Mapping[str, Any]:
    return {"stream": stream, "time": round(record.time * _MICROS), "headers": _headers(record)}


def _headers(record: Archived) -> Mapping[str, str]:
    delivery = Delivery(record.data, Source("topic", "archived"), {})
    try:
        open_delivery(delivery)
    except DecodeError:  # an envelope that is damaged: it is in `data` all the same
        return {}
    return delivery.headers


def decode(content: bytes) -> Iterator[Archived]:
    """The records of a container, read by our schema. Raises DecodeError."""
    try:
        for entry in fastavro.reader(io.BytesIO(content), _parsed):
            said = cast(dict[str, Any], entry)
            time = cast(datetime, said["time"]).timestamp()
            yield Archived(said["shard"], said["sequence"], said["sub"], said["key"], time, said["data"])
    except Exception as error:  # of many kinds: fastavro has none of its own
        raise DecodeError(f"not an Avro container of an archive: {error!r}") from error

"""From a record to a delivery, and back to headers where an envelope is to have some beside. Sans-IO."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgbus import headers as h
from msgbus.brokers.kinesis.records import FAULT, Record
from msgbus.brokers.kinesis.rows import Open
from msgbus.message import Delivery, Source

_ENVELOPE = b'{"specversion":"1.0"'  # how an envelope of ours begins
_STRUCTURED = "application/cloudevents+json"
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})  # one for all: nobody can write into it


def delivery_of(record: Record, source: Source, token: object, before: Open | None) -> Delivery:
    """`before`: what is told of it by those who had it in hand and did not settle it."""
    data: bytes = record["Data"]
    enveloped = data.startswith(_ENVELOPE)  # then it has headers inside, and is known by having none beside
    headers: Mapping[str, str] = _NO_HEADERS if enveloped else {h.KEY: record["PartitionKey"]}
    attempt = deliveries = 1
    if before is not None:
        attempt, deliveries = before.attempt, before.deliveries + 1
        headers = _with_first_failed(before, headers, enveloped=enveloped)
    lane = record["PartitionKey"] if source.ordered else None
    sent_at = record.get("ApproximateArrivalTimestamp")
    return Delivery(data, source, headers, token, attempt, deliveries, lane, sent_at, record, record.get(FAULT))


def open_of(delivery: Delivery | None, *, counted: bool) -> Open:
    """The core counts attempts on the delivery itself while it holds it. `counted`: as delivered, also this time."""
    if delivery is None:
        return Open()
    deliveries = delivery.deliveries if counted else delivery.deliveries - 1
    first = delivery.headers.get(h.FIRST_FAILED, "")
    try:
        return Open(delivery.attempt, float(first or 0.0), deliveries)
    except ValueError:
        return Open(delivery.attempt, 0.0, deliveries)


def envelope_headers(delivery: Delivery) -> Mapping[str, str]:
    """What must be said of an envelope that nobody has opened, where it is to have headers beside."""
    opened = h.ID in delivery.headers or not delivery.body.startswith(_ENVELOPE)
    return {} if opened else {h.CONTENT_TYPE: _STRUCTURED}


def _with_first_failed(before: Open, headers: Mapping[str, str], *, enveloped: bool) -> Mapping[str, str]:
    if not before.first_failed:
        return headers
    kind = {h.CONTENT_TYPE: _STRUCTURED} if enveloped else {}
    return {**headers, h.FIRST_FAILED: f"{before.first_failed:.3f}", **kind}

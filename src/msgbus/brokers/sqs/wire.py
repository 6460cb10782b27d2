"""Messages as SQS and SNS carry them, both ways. Sans-IO.

Sources: SendMessageBatch, ReceiveMessage and PublishBatch in the API references; "Amazon SQS message metadata" for
what attributes may hold. A body is text of 1 character at least; an attribute has a value; ten attributes at most.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from msgbus import headers as h
from msgbus.brokers.sqs.names import sized_id
from msgbus.errors import Refused
from msgbus.message import Delivery, Outgoing, Source

ATTRIBUTES = 10
"""How many a message may have: with more, SNS drops it on the way to a raw SQS subscription."""

EMPTY = "\u2400"
"""Stands for an empty body, which SQS has not: the character "symbol for null" alone."""

POINTER = b'["software.amazon.payloadoffloading.PayloadS3Pointer"'
OLD_POINTER = b'["com.amazon.sqs.javamessaging.MessageS3Pointer"'
SIZE_ATTRIBUTE = "ExtendedPayloadSize"
"""How a body in S3 is told, by the Amazon SQS Extended Client Library: in this form, or in the older one."""

TYPE_BYTES = ATTRIBUTES * len("String")
"""What AWS counts beside names and values."""

_REFUSED_CHARACTER = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def text_of(out: Outgoing) -> str:
    """The body as text. Raises Refused where it is none: the envelope makes text of what isn't declared to be it."""
    try:
        return out.body.decode() or EMPTY
    except UnicodeDecodeError as error:
        raise Refused(f"{out.address}: the body is declared as text and is not UTF-8: {error}") from error


def attributes_of(out: Outgoing) -> tuple[dict[str, Any], int]:
    """The headers as attributes, and the bytes of their names and values; AWS counts their types too.

    What an attribute can't hold (nothing, control characters) goes into the packed header with the others.
    """
    attributes: dict[str, Any] = {}
    odd: dict[str, str] = {}
    size = 0
    for name, value in out.headers.items():
        if not value or not (value.isprintable() or _REFUSED_CHARACTER.search(value) is None):
            odd[name] = value
            continue
        attributes[name] = {"DataType": "String", "StringValue": value}
        size += len(name) + (len(value) if value.isascii() else len(value.encode()))
    if odd:
        size += _pack(attributes, odd)
    if out.body.startswith((POINTER, OLD_POINTER)):
        size += _tell_size(attributes)
    return attributes, size


def _pack(attributes: dict[str, Any], more: Mapping[str, str]) -> int:
    """Add to the packed header; by how many bytes that grew the attributes."""
    before = attributes.get(h.PACKED, {}).get("StringValue")
    packed = json.dumps({**(json.loads(before) if before else {}), **more}, separators=(",", ":"))
    attributes[h.PACKED] = {"DataType": "String", "StringValue": packed}
    return len(packed) - len(before) if before else len(packed) + len(h.PACKED)


def _tell_size(attributes: dict[str, Any]) -> int:
    """Amazon's client knows a body in S3 by this attribute, so it must not stay in the packed header."""
    packed = attributes.get(h.PACKED, {}).get("StringValue", "{}")
    size = json.loads(packed).get(SIZE_ATTRIBUTE)
    if size is None or len(attributes) >= ATTRIBUTES:
        return 0
    attributes[SIZE_ATTRIBUTE] = {"DataType": "Number", "StringValue": size}
    return len(SIZE_ATTRIBUTE) + len(size)


def ordering(out: Outgoing, *, fifo: bool, fair: bool) -> dict[str, Any]:
    """Group and deduplication ids. Raises Refused where order is kept and there is no key to keep it by."""
    if not fifo:
        return {"MessageGroupId": sized_id(out.key)} if fair and out.key else {}
    if not out.key:
        raise Refused(f"{out.address}: keeps order by key, and this message has none; give key=")
    return {"MessageGroupId": sized_id(out.key), "MessageDeduplicationId": sized_id(out.dedup_id or out.id)}


class Token:
    """The handle of one delivery: who may use it, and until when on the bus's clock. `buried`: its dead letter is
    written.
    """

    __slots__ = ("buried", "ends", "handle", "id", "owner")

    def __init__(self, owner: object, message: Mapping[str, Any], ends: float) -> None:
        self.owner: object | None = owner  # None: settled
        self.handle: str = message["ReceiptHandle"]
        self.id: str = message["MessageId"]
        self.ends = ends
        self.buried = False


def delivery_of(
    message: Mapping[str, Any], source: Source, token: Token, attempt: int | None, unwrap: bool
) -> Delivery:
    """A received message. `attempt`: None takes the count of receives."""
    system = message.get("Attributes") or {}
    received = int(system.get("ApproximateReceiveCount", 1))
    headers = {
        name: attribute["StringValue"]
        for name, attribute in (message.get("MessageAttributes") or {}).items()
        if "StringValue" in attribute
    }
    body: str = message["Body"]
    if unwrap and not headers and body[:1] == "{":
        body, headers = opened(body)
    sent = system.get("SentTimestamp")
    return Delivery(
        b"" if body == EMPTY else body.encode(),
        source,
        headers,
        token,
        received if attempt is None else attempt,
        received,
        system.get("MessageGroupId") if source.ordered else None,
        None if sent is None else int(sent) / 1000,
        message,
    )


def opened(body: str) -> tuple[str, dict[str, str]]:
    """Body and headers of what SNS (without raw delivery) or EventBridge wrapped; other bodies as they are.

    Sources: "Parsing Amazon SNS message formats" and "AWS service event metadata" in the developer guides.
    """
    if '"TopicArn"' not in body and '"detail-type"' not in body:
        return body, {}
    try:
        outer = json.loads(body)
    except (ValueError, RecursionError):
        return body, {}
    if outer.get("Type") == "Notification" and isinstance(outer.get("Message"), str) and "TopicArn" in outer:
        return outer["Message"], _notification_headers(outer)
    if {"detail", "detail-type", "source", "id"} <= outer.keys():
        return json.dumps(outer["detail"], separators=(",", ":"), ensure_ascii=False), _event_headers(outer)
    return body, {}


def _notification_headers(outer: Mapping[str, Any]) -> dict[str, str]:
    given = outer.get("MessageAttributes") or {}
    headers = {name: str(each["Value"]) for name, each in given.items() if each.get("Type") != "Binary"}
    if h.PACKED not in headers:  # of a foreign producer: what SNS itself knows
        headers.setdefault(h.ID, str(outer.get("MessageId", "")))
        headers.setdefault(h.TIME, str(outer.get("Timestamp", "")))
    return headers


def _event_headers(outer: Mapping[str, Any]) -> dict[str, str]:
    return {
        h.SPEC: "1.0",
        h.ID: str(outer["id"]),
        h.TYPE: str(outer["detail-type"]),
        h.SOURCE: str(outer["source"]),
        h.TIME: str(outer.get("time", "")),
        h.CONTENT_TYPE: "application/json",
    }

"""Dead letters: the message as it came, and why it is one. Sans-IO."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from msgbus import headers as h
from msgbus.brokers.sqs.names import sized_id
from msgbus.brokers.sqs.targets import Target
from msgbus.brokers.sqs.wire import ATTRIBUTES
from msgbus.errors import Refused
from msgbus.message import CopyOf, Settlement

_SHORT = 80  # characters that are left of an error's text where there is no room
_PARTS = ("DataType", "StringValue", "BinaryValue")
_TEXTS = (h.DEAD_REASON, h.ERROR)


def dead_entry(settlement: Settlement, target: Target) -> dict[str, Any]:
    """The entry of SendMessageBatch that carries a delivery to its dead-letter queue.

    Body and attributes are those that came: the core has opened the envelope of the delivery itself. Failure
    headers go into the packed header. On a FIFO queue each letter has a group of its own, so that all of them can
    be read at once. Raises Refused where there is no room for why it is dead; once refused, it goes without.
    """
    message: Mapping[str, Any] = settlement.delivery.raw
    headers = {
        h.DEAD_REASON: settlement.reason,
        **(settlement.headers or {}),
        **_first_failed(settlement),
        **_natively_known(settlement),
    }
    given = message.get("MessageAttributes") or {}
    for failure in (headers, _shortened(headers)):
        attributes = _with_failure(given, failure)
        if attributes is not None and _size(message["Body"], attributes) <= target.limit:
            break
    else:
        if not settlement.refused:
            raise Refused(
                f"{settlement.delivery.source}: no room in a dead letter in {target.where} for why it is one: the"
                f" message has {len(message['Body']):,} characters and {len(given)} attributes"
            )
        attributes = _sendable(given)  # why is in the log
    entry: dict[str, Any] = {"MessageBody": message["Body"]}
    if attributes:
        entry["MessageAttributes"] = attributes
    if target.fifo:
        entry["MessageGroupId"] = message["MessageId"]
        hop = str(settlement.delivery.headers.get(h.HOP, "0"))
        entry["MessageDeduplicationId"] = sized_id(f"{message['MessageId']}:{hop}:dead")
    return entry


def came_from_here(copy: CopyOf) -> bool:
    """Whether its native message is one of SQS: the dead letters of another broker may be."""
    return isinstance(copy.delivery.raw, Mapping) and copy.delivery.raw.keys() >= {"Body", "ReceiptHandle"}


def resent(copy: CopyOf) -> tuple[str, dict[str, dict[str, Any]], int]:
    """Body, attributes and their size of a message that is sent again: as it came, but for headers of ours.

    Raises Refused where one attribute more, which says how often it was sent, is one too many.
    """
    message: Mapping[str, Any] = copy.delivery.raw
    given = _sendable(message.get("MessageAttributes") or {})
    attributes = {name: each for name, each in given.items() if name not in copy.dropped}
    before = attributes.pop(h.PACKED, {}).get("StringValue", "{}")
    packed = {name: value for name, value in json.loads(before).items() if name not in copy.dropped}
    if len(attributes) >= ATTRIBUTES:
        raise Refused(f"{copy.delivery.source}: {len(attributes)} attributes, and no room for one of ours")
    text = json.dumps({**packed, **copy.added}, separators=(",", ":"))
    attributes[h.PACKED] = {"DataType": "String", "StringValue": text}
    body: str = message["Body"]
    return body, attributes, _size(body, attributes)


def _natively_known(settlement: Settlement) -> dict[str, str]:
    """The id and the group of a foreign message, of which its dead letter has others."""
    delivery = settlement.delivery
    known = {h.ID: delivery.raw["MessageId"], h.KEY: (delivery.raw.get("Attributes") or {}).get("MessageGroupId")}
    return {name: str(value) for name, value in known.items() if value is not None and name not in delivery.headers}


def _first_failed(settlement: Settlement) -> dict[str, str]:
    """A retry here leaves the message as it is, so that the core knows of the last failure alone: about its first."""
    delivery = settlement.delivery
    received = (delivery.raw.get("Attributes") or {}).get("ApproximateFirstReceiveTimestamp", "")
    if delivery.attempt < 2 or h.FIRST_FAILED in delivery.headers or not received.isdecimal():
        return {}
    return {h.FIRST_FAILED: f"{int(received) / 1000:.3f}"}


def _with_failure(given: Mapping[str, Any], failure: Mapping[str, str]) -> dict[str, Any] | None:
    """The attributes with the failure headers packed; None where ten are too few."""
    attributes = _sendable(given)
    packed = dict(failure)
    before = attributes.pop(h.PACKED, None)
    if before is not None:
        packed = _merged(before.get("StringValue", ""), failure)
    for name in [name for name, each in attributes.items() if each["DataType"] == "String"]:
        if len(attributes) < ATTRIBUTES:
            break
        packed.setdefault(name, attributes.pop(name)["StringValue"])
    if len(attributes) >= ATTRIBUTES:
        return None
    attributes[h.PACKED] = {"DataType": "String", "StringValue": json.dumps(packed, separators=(",", ":"))}
    return attributes


def _merged(packed: str, failure: Mapping[str, str]) -> dict[str, str]:
    """A damaged packed header may be the very reason: it is kept as text beside the failure."""
    try:
        opened = json.loads(packed)
        return {**opened, **failure, **{name: opened[name] for name in (h.ID, h.KEY) if name in opened}}
    except (ValueError, TypeError, RecursionError):
        return {**failure, "msgbus-damaged": packed}


def _sendable(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Each without what a receive adds; what is no attribute at all can't be sent."""
    return {
        name: {part: value for part, value in attribute.items() if part in _PARTS}
        for name, attribute in given.items()
        if isinstance(attribute, Mapping) and "DataType" in attribute
    }


def _shortened(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value[:_SHORT] if name in _TEXTS else value for name, value in headers.items()}


def _size(body: str, attributes: Mapping[str, Any]) -> int:
    size = len(body) if body.isascii() else len(body.encode())
    for name, attribute in attributes.items():
        value = attribute.get("StringValue")
        size += len(name) + len(attribute["DataType"])
        size += len(value.encode()) if value is not None else len(attribute.get("BinaryValue", b""))
    return size

"""Envelopes of SNS (a subscription without raw delivery) and EventBridge, opened. Sans-IO.

Sources: "Parsing Amazon SNS message formats" and "AWS service event metadata" in the developer guides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from msgbus import headers as h
from msgbus.errors import DecodeError, said

SUBJECT = "subject"
"""The header of what was published to SNS with a Subject."""

_LAYERS = 5
_EVENT = frozenset(("detail", "detail-type", "source", "id"))


def opened(body: str) -> tuple[str, dict[str, str]]:
    """Body and headers of what was wrapped, however often; other bodies as they are.

    What an inner envelope says wins. Raises DecodeError for an envelope that neither service has written: it lies, or
    is damaged; and for one with more than a few others in it.
    """
    headers: dict[str, str] = {}
    for _ in range(_LAYERS):
        inner, found = _one_layer(body)
        if not found:
            return body, headers
        body, headers = inner, {**headers, **{name: value for name, value in found.items() if value}}
        if h.SPEC in found or h.PACKED in found:  # an event, or ours: what is in it is its payload
            return body, headers
    raise DecodeError(f"{_LAYERS} envelopes of SNS in each other, or more")


def _one_layer(body: str) -> tuple[str, dict[str, str]]:
    if body[:1] != "{" or ('"TopicArn"' not in body and '"detail-type"' not in body):
        return body, {}
    try:
        outer = json.loads(body)
    except (ValueError, RecursionError):
        return body, {}
    if outer.get("Type") == "Notification" and isinstance(outer.get("Message"), str) and "TopicArn" in outer:
        return _read("SNS", outer, _notification)
    if outer.keys() >= _EVENT:
        return _read("EventBridge", outer, _event)
    return body, {}


def _read(service: str, outer: Mapping[str, Any], read: Any) -> tuple[str, dict[str, str]]:
    try:
        inner, headers = read(outer)
        for text in (inner, *headers, *headers.values()):
            if not text.isascii():
                text.encode()  # half a surrogate pair is no text
    except Exception as error:
        raise DecodeError(f"a damaged envelope of {service}: {type(error).__name__}: {said(error)}") from error
    return inner, headers


def _notification(outer: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    given = outer.get("MessageAttributes") or {}
    headers = {
        name: str(each["Value"])  # of a Binary one it is base64
        for name, each in given.items()
        if each.get("Type") != "Binary" or not name.startswith(h.PACKED)
    }
    if outer.get("Subject"):
        headers.setdefault(SUBJECT, str(outer["Subject"]))
    if h.PACKED not in headers:  # of a foreign producer: what SNS itself knows
        headers.setdefault(h.ID, str(outer.get("MessageId", "")))
        headers.setdefault(h.TIME, str(outer.get("Timestamp", "")))
    return outer["Message"], headers


def _event(outer: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    return json.dumps(outer["detail"], separators=(",", ":"), ensure_ascii=False), {
        h.SPEC: "1.0",
        h.ID: str(outer["id"]),
        h.TYPE: str(outer["detail-type"]),
        h.SOURCE: str(outer["source"]),
        h.TIME: str(outer.get("time", "")),
        h.CONTENT_TYPE: "application/json",
    }

"""The names of the headers that msgbus reads and writes, and the few helpers that brokers share.

CloudEvents 1.0 attributes carry the prefix `ce-`; `content-type`, `correlation_id` and `reply_to` are spelled as
FastStream and AMQP spell them; what is ours alone begins with `msgbus-`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

_BINDINGS = ("cloudEvents:", "cloudEvents_", "ce_")

ID = "ce-id"
TYPE = "ce-type"
SOURCE = "ce-source"
TIME = "ce-time"
SPEC = "ce-specversion"
KEY = "ce-partitionkey"  # CloudEvents partitioning extension
EXPIRES = "ce-expirytime"  # CloudEvents expiry extension, RFC 3339
CONTENT_TYPE = "content-type"
CORRELATION = "correlation_id"
CAUSATION = "causation_id"
REPLY_TO = "reply_to"

ATTEMPT = "msgbus-attempt"  # which start of a handler a re-sent copy will be
SENT = "msgbus-sent"  # Unix time at which the message was sent first, on a copy
FIRST_FAILED = "msgbus-first-failed"  # Unix time of the first failure
HOP = "msgbus-hop"  # how often it was sent again
DEAD_REASON = "msgbus-dead-reason"
ERROR_TYPE = "msgbus-error-type"
ERROR = "msgbus-error"
ATTEMPTS = "msgbus-attempts"  # starts of the handler before it was dead-lettered
ORIGIN = "msgbus-origin"  # where a dead letter comes from: kind, name, group
PACKED = "msgbus"  # all other headers as one JSON object, where a broker allows few
ENCODING = "msgbus-encoding"  # "base64": the body had to become text
CLAIM = "msgbus-claim"  # reference of the stored body, once it was fetched
REPLY_ERROR = "msgbus-reply-error"  # class name of what the responder raised

EVENT = (ID, TYPE)  # attributes with a native place on some brokers, which bindings of CloudEvents look for as headers

FAILURE = (ATTEMPT, SENT, FIRST_FAILED, DEAD_REASON, ERROR_TYPE, ERROR, ATTEMPTS, ORIGIN)


def event_name(name: str) -> str:
    """What a header is called here that another binding of CloudEvents wrote: AMQP 1.0's prefixes, Kafka's `ce_`."""
    for prefix in _BINDINGS:
        if name.startswith(prefix) and name[len(prefix) :].isalnum():
            return f"ce-{name[len(prefix) :]}"
    return name


def attempt_of(headers: Mapping[str, str]) -> int:
    """The attempt that a re-sent copy stands at; 1 for a first delivery or a header that is no number."""
    text = headers.get(ATTEMPT, "")
    return max(1, int(text)) if text.isdecimal() and len(text) < 10 else 1


def number_of(headers: Mapping[str, str], name: str) -> float | None:
    """A header that holds a finite number; None where it is not there or anything else."""
    text = headers.get(name)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def time_of(headers: Mapping[str, str], name: str) -> float | None:
    """A header that holds a time, as Unix seconds: RFC 3339, or seconds already; None where it is anything else."""
    text = headers.get(name, "")
    if text[4:5] != "-":
        return number_of(headers, name)
    try:
        moment = datetime.fromisoformat(text.upper())
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def rfc3339(seconds: float) -> str:
    """A Unix time of the years 1 to 9999, such as 2026-11-24T09:30:00.125Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def has_expired(headers: Mapping[str, str], now: float) -> bool:
    """Whether its sender wants it no more at Unix time `now`; never of a dead letter. What is no time never comes."""
    expires = time_of(headers, EXPIRES)
    return expires is not None and expires <= now and DEAD_REASON not in headers


def resend_id(headers: Mapping[str, str], message_id: str) -> tuple[str, str]:
    """The next hop and the deduplication id of a copy: a window must not swallow a message that is sent again."""
    text = headers.get(HOP, "0")
    hop = str(int(text) + 1 if text.isdecimal() and len(text) < 10 else 1)
    return hop, f"{message_id}:{hop}"

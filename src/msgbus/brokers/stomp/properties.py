"""Headers of msgbus as headers of a SEND, and those of a MESSAGE back.

`correlation_id`, `reply_to` and `ce-type` have native names (JMSCorrelationID, JMSReplyTo and JMSType of a JMS
consumer); `content-type` is called the same; all others keep their names. A header of a user's that has a name with
a meaning in STOMP travels as `msgbus-own-NAME`.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgbus import headers as h
from msgbus.brokers.mq import receiver
from msgbus.brokers.mq.rabbitmq import DELIVERY_COUNT
from msgbus.brokers.stomp.codec import Frame
from msgbus.errors import DecodeError

NATIVE = {h.CORRELATION: "correlation-id", h.REPLY_TO: "reply-to", h.TYPE: "type"}
GROUP = "JMSXGroupID"
DELAY = "AMQ_SCHEDULED_DELAY"
AMQP_ID = "amqp-message-id"

_OWN = "msgbus-own"  # marks a message that carries headers under `msgbus-own-NAME`
_PREFIX = "msgbus-own-"
_COMMON = (
    *("destination", "message-id", "subscription", "ack", "content-length", "expires", "priority", "timestamp"),
    *("persistent", "redelivered", "receipt", "original-destination"),
)
"""Of most messages that come."""
_SERVERS = frozenset(
    ("scheduledJobId", "amq-msg-type", "transformation", "JMSXUserID", "JMSXGroupSeq", "expiration", "receipt-id")
)
_RARE = _SERVERS | {DELIVERY_COUNT, GROUP, _OWN}

RESERVED = frozenset(
    [
        *(*_COMMON, *_RARE, *NATIVE.values(), AMQP_ID, DELAY),
        *("id", "transaction", "selector", "browser", "transformation-error", "user-id", "app-id", "userID", "login"),
        *("passcode", "AMQ_SCHEDULED_PERIOD", "AMQ_SCHEDULED_CRON", "AMQ_SCHEDULED_REPEAT", "AMQ_SCHEDULER_ACTION"),
        *("CC", "BCC", "JMSXDeliveryCount", "durable", "auto-delete", "exclusive", "x-queue-name", "x-queue-type"),
    ]
)
"""Names with a meaning in STOMP or for a server."""


class Arrived(receiver.Arrived):
    """A message that came. `native`: all headers as they came; `headers`: the sender's, under their names here."""

    __slots__ = ("native",)

    def __init__(self, headers: dict[str, str], body: bytes, native: Mapping[str, str]) -> None:
        self.headers = headers
        self.body = body
        self.native = native
        self.timestamp = None
        self.fault: DecodeError | None = None
        self.deliveries = 1
        self.owner = None

    def __repr__(self) -> str:
        return f"Arrived({self.native.get('destination')!r}, {len(self.body)} bytes)"


def read(names: Mapping[str, str], frame: Frame) -> Arrived:
    """`names`: native name -> header."""
    native, headers = frame.headers, dict(frame.headers)
    for name in _COMMON:  # faster than to pick the others
        headers.pop(name, None)
    message = Arrived(headers, frame.body, native)
    if frame.fault:
        message.fault = DecodeError(frame.fault)
    if "timestamp" in native:
        message.timestamp = _seconds(native["timestamp"])
    for name, header in names.items():
        if name in headers:
            value = headers.pop(name)
            headers.setdefault(header, value)  # a foreign producer that writes our header means that
    if not _RARE.isdisjoint(headers):
        _read_rare(message)
    return message


def _read_rare(message: Arrived) -> None:
    headers = message.headers
    for name in _SERVERS.intersection(headers):
        del headers[name]
    if DELIVERY_COUNT in headers:
        message.deliveries = 1 + _number(headers.pop(DELIVERY_COUNT))
    if GROUP in headers:
        headers.setdefault(h.KEY, headers.pop(GROUP))
    if _OWN in headers:
        _give_back(headers)


def _give_back(headers: dict[str, str]) -> None:
    del headers[_OWN]
    for name in [name for name in headers if name.startswith(_PREFIX)]:
        headers[name.removeprefix(_PREFIX)] = headers.pop(name)


def write(headers: Mapping[str, str], into: dict[str, str], names: Mapping[str, str]) -> None:
    """Add headers to those of a SEND. `names`: header -> native name."""
    if not RESERVED.isdisjoint(headers):
        headers = {f"{_PREFIX}{name}" if name in RESERVED else name: value for name, value in headers.items()}
        into[_OWN] = "1"
    into.update(headers)
    for name, native in names.items():
        if name in into:
            into[native] = into.pop(name)


def _seconds(text: str) -> float | None:
    """ActiveMQ writes milliseconds, RabbitMQ the seconds of AMQP."""
    number = _number(text)
    return number / 1000 if number > 100_000_000_000 else float(number) or None


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 16 else 0

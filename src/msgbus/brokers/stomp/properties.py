"""Headers of msgbus as headers of a SEND, and those of a MESSAGE back.

`correlation_id`, `reply_to` and `ce-type` have native names (JMSCorrelationID, JMSReplyTo and JMSType of a JMS
consumer); `content-type` is called the same; all others keep their names, and so does `ce-type` beside its native
name (and `ce-id`, where it has one): bindings of CloudEvents look for them. A header of a user's that has a name with
a meaning in STOMP travels as `msgbus-own-NAME`.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgbus import headers as h
from msgbus.brokers.mq import receiver
from msgbus.brokers.mq.errors import Hidden
from msgbus.brokers.mq.rabbitmq import DELIVERY_COUNT
from msgbus.brokers.stomp.codec import Frame
from msgbus.brokers.stomp.maps import FORM, is_map, json_of
from msgbus.brokers.stomp.modified import plain
from msgbus.errors import DecodeError
from msgbus.message import CopyOf

NATIVE = {h.CORRELATION: "correlation-id", h.REPLY_TO: "reply-to", h.TYPE: "type"}
GROUP = "JMSXGroupID"
PRIORITY = "JMSPriority"
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
_HIDDEN = "a JMS message whose body STOMP does not show: a Stream or Object message, or one that has none"
_OURS = (h.SPEC, h.ATTEMPT, h.HOP, h.DEAD_REASON)
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
    """A message that came. `native`: all headers as they came; `headers`: the sender's, under their names here.

    `shown`: of a MapMessage of JMS, what the server shows of it; `body` is JSON.
    """

    __slots__ = ("native", "shown")

    def __init__(self, headers: dict[str, str], body: bytes, native: Mapping[str, str]) -> None:
        self.headers = headers
        self.body = body
        self.native = native
        self.shown = b""
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
    if "content-length" not in native or native.get("amq-msg-type") == "text":  # as `is_text`, without its call
        _read_text(message)
    if "timestamp" in native:
        message.timestamp = _seconds(native["timestamp"])
    for name, header in names.items():
        if name in headers:
            value = headers.pop(name)
            headers.setdefault(header, value)  # a foreign producer that writes our header means that
    if h.SPEC not in headers or not _RARE.isdisjoint(headers) or native.get("priority", "4") != "4":
        _read_rare(message)
    return message


def _read_foreign(message: Arrived) -> None:
    """What another program sent: JMS allows no hyphen in a name of a header, and has ids of its own."""
    headers, message_id = message.headers, message.native.get("message-id", "")
    for name in [name for name in headers if name.startswith(("ce", "cloudEvents")) and h.event_name(name) != name]:
        headers.setdefault(h.event_name(name), headers.pop(name))
    if message_id.startswith("ID:"):
        headers.setdefault(h.ID, message_id)  # after those: an event has its own


def is_hidden(native: Mapping[str, str]) -> bool:
    """Of a message without a body: whether ActiveMQ may have one that it does not show.

    A message id ends in session, producer and number. The session is -1 where a STOMP client sent it, 0 where the
    server's scheduler did, for whomever; those of JMS are above.
    """
    if "content-length" in native or not native.get("message-id", "").startswith("ID:"):
        return False
    if "transformation" in native:  # a STOMP client that makes messages of JMS
        return True
    session = native["message-id"].rsplit(":", 3)[1]
    return session != "-1" if session != "0" else not any(name in native for name in _OURS)


def _read_text(message: Arrived) -> None:
    message.body = plain(message.body)
    if not message.body and message.fault is None and is_hidden(message.native):
        message.fault = Hidden(_HIDDEN)


def _read_map(message: Arrived) -> None:
    message.shown = message.body
    try:
        message.body = json_of(message.shown)
    except Hidden as hidden:
        message.fault = hidden


def is_text(message: Arrived) -> bool:
    """Whether it is a TextMessage of JMS."""
    return "content-length" not in message.native or message.native.get("amq-msg-type") == "text"


def _read_rare(message: Arrived) -> None:
    headers = message.headers
    if headers.get("transformation") == FORM and is_map(message.body):
        _read_map(message)
    for name in _SERVERS.intersection(headers):
        del headers[name]
    if DELIVERY_COUNT in headers:
        message.deliveries = 1 + _number(headers.pop(DELIVERY_COUNT))
    if GROUP in headers:
        headers.setdefault(h.KEY, headers.pop(GROUP))
    if _OWN in headers:
        _give_back(headers)
    if message.native.get("priority", "4") != "4":
        headers.setdefault(PRIORITY, message.native["priority"])
    if h.SPEC not in headers:
        _read_foreign(message)


def _give_back(headers: dict[str, str]) -> None:
    del headers[_OWN]
    for name in [name for name in headers if name.startswith(_PREFIX)]:
        headers[name.removeprefix(_PREFIX)] = headers.pop(name)


def lane_of(arrived: Arrived) -> str | None:
    """The key. ActiveMQ does not show the group of a message that JMS sent: all of those keep one order."""
    key = arrived.headers.get(h.KEY)
    return "" if key is None and h.SPEC not in arrived.headers else key


def resent(copy: CopyOf) -> tuple[dict[str, str], bytes]:
    """Headers and body of what came and is sent again."""
    arrived: Arrived = copy.delivery.token
    kept = {name: value for name, value in arrived.headers.items() if name not in copy.dropped}
    return {**kept, **copy.added}, arrived.shown or arrived.body


def write(headers: Mapping[str, str], into: dict[str, str], names: Mapping[str, str]) -> None:
    """Add headers to those of a SEND. `names`: header -> native name."""
    if not RESERVED.isdisjoint(headers):
        headers = {f"{_PREFIX}{name}" if name in RESERVED else name: value for name, value in headers.items()}
        into[_OWN] = "1"
    into.update(headers)
    if PRIORITY in into:
        into["priority"] = into.pop(PRIORITY)
    for name, native in names.items():
        if name in into:
            into[native] = into[name] if name in h.EVENT else into.pop(name)


def _seconds(text: str) -> float | None:
    """ActiveMQ writes milliseconds, RabbitMQ the seconds of AMQP."""
    number = _number(text)
    return number / 1000 if number > 100_000_000_000 else float(number) or None


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 16 else 0

"""What others write: compressed bodies, CloudEvents in any JSON, several of them in one message.

Looked at only where a message is none of ours: ours say their codec's content type, and nothing of an encoding.
Sources: CloudEvents 1.0.2, JSON event format, sections 3 and 4; RFC 9110, section 8.4.1 (content codings); kombu's
header `compression`.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgbus import headers as h
from msgbus.envelope.compression import COMPRESSION, CONTENT_ENCODING, expand
from msgbus.envelope.structured import STRUCTURED, elements, event, unstructure
from msgbus.errors import DecodeError
from msgbus.message import Delivery

BOM = b"\xef\xbb\xbf"

_BATCH = "application/cloudevents-batch"
_EVENT = "application/cloudevents"
_REQUIRED = (b'"specversion"', b'"id"', b'"source"', b'"type"')


class EventBatch(DecodeError):
    """The message holds several events. Whoever can handles each; to others it is no message that they can read."""

    def __init__(self, events: list[Delivery]) -> None:
        super().__init__(f"the message holds {len(events)} CloudEvents, where one is expected")
        self.events = events


def open_foreign(delivery: Delivery, max_bytes: int) -> None:
    """Undo, in place, what a foreign producer did to a body. Opening twice changes nothing.

    `max_bytes`: a body that grows larger is refused. Raises DecodeError for a body that is not what it says, or that
    is compressed in a way that is not known; EventBatch where there are several events.
    """
    headers = delivery.headers
    if CONTENT_ENCODING in headers or COMPRESSION in headers:
        headers, body = expand(headers, delivery.body, max_bytes)
        delivery.headers, delivery.body = headers, body
    kind = headers.get(h.CONTENT_TYPE)
    if kind is None:
        open_by_looks(delivery)
    else:
        _open_by_type(delivery, kind.lstrip().lower())


def _open_by_type(delivery: Delivery, kind: str) -> None:
    if kind.startswith(_BATCH):
        raise EventBatch(_events(delivery))
    if kind.startswith(STRUCTURED):
        delivery.headers, delivery.body = unstructure(delivery.headers, delivery.body.removeprefix(BOM))
    elif kind.startswith(_EVENT):
        raise DecodeError(f"content-type {kind!a:.200}: CloudEvents in one piece are read as JSON alone")


def open_by_looks(delivery: Delivery) -> None:
    """Open what looks like an event, in any order and spacing of its members; anything else is left as it is.

    What the event says wins over what its broker knows of the message. Raises EventBatch where there are several.
    """
    if not all(name in delivery.body for name in _REQUIRED):  # cheap, and true of more than events
        return
    body = delivery.body.removeprefix(BOM)
    begins = body.lstrip()[:1]
    if begins == b"{" and (opened := event(body)) is not None:
        delivery.headers, delivery.body = {**delivery.headers, **opened[0]}, opened[1]
    elif begins == b"[":
        try:
            events = _events(delivery)
        except DecodeError:
            return
        raise EventBatch(events)


def _events(delivery: Delivery) -> list[Delivery]:
    """Raises DecodeError where one of them is none."""
    beside = _of_the_message(delivery.headers)
    events: list[Delivery] = []
    for place, element in enumerate(elements(delivery.body.removeprefix(BOM))):
        opened = event(element)
        if opened is None:
            raise DecodeError(f"entry {place} of a batch of CloudEvents is none")
        events.append(_part_of(delivery, {**beside, **opened[0]}, opened[1]))
    return events


def _of_the_message(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != h.CONTENT_TYPE}


def _part_of(whole: Delivery, headers: Mapping[str, str], body: bytes) -> Delivery:
    """An event of a message; it is settled with the message."""
    attempt, deliveries, lane, sent_at = whole.attempt, whole.deliveries, whole.lane, whole.sent_at
    return Delivery(body, whole.source, headers, whole.token, attempt, deliveries, lane, sent_at, whole.raw)

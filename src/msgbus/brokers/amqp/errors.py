"""What an AMQP server says, as errors of msgbus. Codes: AMQP 0-9-1 specification, 1.2 and RabbitMQ's extensions."""

from __future__ import annotations

import re

from msgbus.brokers.amqp.wire import Publication
from msgbus.brokers.mq.errors import ServerSaid, caused, said
from msgbus.errors import BusError, Disconnected, ReceiverClosed, Refused, Throttled, Unavailable

ACCESS_REFUSED, NOT_FOUND, PRECONDITION = 403, 404, 406
NOT_ALLOWED = 530
INTERNAL_ERROR = 541
_PERMANENT = (501, 502, 503, 505, NOT_ALLOWED, 540)  # what was sent is no AMQP, or not allowed
_OF_EXCHANGE = (ACCESS_REFUSED, NOT_FOUND)
_TOO_LARGE = re.compile(r"message size \d+ is larger than configured max size (\d+)")


def has_code(error: BusError, code: int) -> bool:
    """Whether it is what the server said with this code."""
    told = said(error)
    return told is not None and told.code == code


def told(code: int, text: str) -> ServerSaid:
    """What the server said."""
    return ServerSaid(text, code, permanent=ACCESS_REFUSED <= code <= PRECONDITION or code in _PERMANENT)


def refusal(code: int, text: str) -> BusError:
    """The error of a call that made the server close its channel."""
    cause = told(code, text)
    return caused(Refused(text) if cause.permanent else Unavailable(text), cause)


def receiver_end(code: int, text: str) -> BusError:
    """The error of a receiver whose channel the server closed."""
    return caused(ReceiverClosed(f"the server closed the channel: {text}"), told(code, text))


def connection_end(code: int, text: str, *, opening: bool) -> BusError:
    """The error of a connection that the server closed, or refused while it was `opening`."""
    cause = told(code, text)
    if code == INTERNAL_ERROR:  # mostly what was sent: a reply address that names a process which can't be
        cause.permanent = not opening
    if not opening or code not in (ACCESS_REFUSED, NOT_ALLOWED, 402):
        return caused(Disconnected(f"the server closed the connection: {text}"), cause)
    if "limit" in text:
        return caused(Unavailable(text), cause)
    return caused(Refused(text), cause)


def rejected(publication: Publication) -> BusError:
    """A Basic.Nack: the queue is full, or its leader is gone."""
    place = publication.exchange or publication.routing_key
    return Throttled(f"{place}: the server rejected the message (a full queue, or one without a leader)")


def blame(publication: Publication, error: ServerSaid) -> BusError:
    """The outcome of an unconfirmed publication on a channel that the server closed for one of its entries."""
    exchange = publication.exchange or "amq.default"
    if error.code in _OF_EXCHANGE and f"'{exchange}'" in error.text:
        return caused(Refused(error.text), error)
    found = _TOO_LARGE.search(error.text)
    if found is not None and len(publication.body) > int(found[1]):
        return caused(Refused(error.text), error)
    return caused(Unavailable(f"the channel was closed, perhaps by another message: {error.text}"), error)

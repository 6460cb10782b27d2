"""What an AMQP server says, as errors of msgbus. Codes: AMQP 0-9-1 specification, 1.2 and RabbitMQ's extensions."""

from __future__ import annotations

import re

from msgbus.brokers.amqp.wire import Publication
from msgbus.errors import BusError, Disconnected, ReceiverClosed, Refused, Throttled, Unavailable

ACCESS_REFUSED, NOT_FOUND, LOCKED, PRECONDITION = 403, 404, 405, 406
NOT_ALLOWED = 530
_OF_EXCHANGE = (ACCESS_REFUSED, NOT_FOUND)
_TOO_LARGE = re.compile(r"message size \d+ is larger than configured max size (\d+)")


class ServerSaid(Exception):
    """The code and text with which a server closed a channel or a connection."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text


def said(error: BaseException | None) -> ServerSaid | None:
    """What the server said, if that is what caused an error."""
    cause = error.__cause__ if error is not None else None
    return cause if isinstance(cause, ServerSaid) else None


def caused(error: BusError, cause: BaseException) -> BusError:
    """`error` with its native cause."""
    error.__cause__ = cause
    return error


def refusal(code: int, text: str) -> BusError:
    """The error of a call that made the server close its channel."""
    permanent = ACCESS_REFUSED <= code <= PRECONDITION or code in (NOT_ALLOWED, 540)
    return caused(Refused(text) if permanent else Unavailable(text), ServerSaid(code, text))


def receiver_end(code: int, text: str) -> BusError:
    """The error of a receiver whose channel the server closed."""
    return caused(ReceiverClosed(f"the server closed the channel: {text}"), ServerSaid(code, text))


def connection_end(code: int, text: str, *, opening: bool) -> BusError:
    """The error of a connection that the server closed, or refused while it was `opening`."""
    cause = ServerSaid(code, text)
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

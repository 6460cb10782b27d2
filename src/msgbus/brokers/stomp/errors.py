"""What a STOMP server says, as errors of msgbus."""

from __future__ import annotations

import re

from msgbus.brokers.mq.errors import ServerSaid, caused, said
from msgbus.brokers.stomp.codec import Frame
from msgbus.errors import BusError, Refused, Throttled, Unavailable

_PASSING = re.compile(
    r"limit|exceed|maximum (number of )?connections|stopp(ed|ing)|not (been )?started|starting|slave", re.I
)
_FULL = re.compile(r"Usage ?Manager|ResourceAllocation|is full|usage limit", re.IGNORECASE)
_FOR_GOOD = re.compile(
    r"not authori[sz]ed|access.?refused|access denied|not_?found|precondition_?failed|not_?allowed|invalid|illegal"
    r"|does ?not ?exist|must|unsupported|cannot|can't|unknown|exceeded",
    re.IGNORECASE,
)


def _told(frame: Frame) -> ServerSaid:
    """An ERROR frame: its `message` header, and the first line of its text."""
    message = str(frame.headers.get("message", ""))
    first = frame.body.decode("utf-8", "replace").strip().split("\n\t", 1)[0].strip()
    text = first if message in first else f"{message}: {first}" if first else message
    return ServerSaid(text, permanent=_FOR_GOOD.search(text) is not None)


def connect_error(frame: Frame) -> BusError:
    """CONNECT was answered by an ERROR: wrong credentials, mostly."""
    told = _told(frame)
    return caused((Unavailable if _PASSING.search(told.text) else Refused)(told.text), told)


def refusal(frame: Frame) -> BusError:
    """A frame was answered by an ERROR."""
    told = _told(frame)
    if _FULL.search(told.text):
        return caused(Throttled(told.text), told)
    return caused((Refused if told.permanent else Unavailable)(told.text), told)


def is_gone(error: BusError) -> bool:
    """Whether the server said that a temporary destination is no more."""
    told = said(error)
    return told is not None and "DestinationDoesNotExist" in told.text

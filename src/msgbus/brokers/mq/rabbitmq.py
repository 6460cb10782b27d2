"""What is the same on RabbitMQ whether one gets there over AMQP or over STOMP."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from msgbus import headers as h
from msgbus.brokers.naming import joined
from msgbus.message import Address, Source

_DEAD = ".dead"
_YEAR_9999 = 253_370_764_800.0

DELIVERY_COUNT = "x-delivery-count"
"""Header of a message from a quorum queue: absent at first, then 1, 2, ..."""

DIRECT_REPLY = "amq.rabbitmq.reply-to."
"""How the names begin that the server gives to requesters."""

INBOXES = r"amq\.rabbitmq\.reply-to\.[\w+/=.-]+|amq\.gen-[\w-]+|msgbus\.reply\.[0-9a-f]{32}"
"""What the reply address of a requester looks like: direct reply-to, a queue that the server named, or ours over STOMP.

Nobody else can have a queue of the first two forms: names that begin with `amq.` are the server's.
"""

OWN = ("x-death", "x-first-death-", "x-last-death-", DELIVERY_COUNT, "x-acquired-count")
"""How the names of headers begin that the server writes."""


def queue_of(place: Source | Address) -> str:
    """The queue of a source, or of an address that is a queue or one group."""
    return joined(place.name, place.group, ".", _DEAD) if place.kind == "topic" else place.name


def unsafe_reply(name: str) -> str:
    """Why nothing may be sent to this reply address; "" where it may: RabbitMQ ends the connection of who does.

    A direct reply-to names a process of Erlang in base64 and a key. Source: "Erlang external term format", NEW_PID_EXT
    and PID_EXT; an atom before 12, 8 or 9 bytes.
    """
    head, _, rest = name.partition(DIRECT_REPLY)
    if head or not rest:
        return ""
    try:
        return "" if _is_process(base64.b64decode(rest.partition(".")[0], validate=True)) else "it names no process"
    except (ValueError, IndexError):
        return "it is damaged"


def _is_process(term: bytes) -> bool:
    wide = term[2] in (100, 118)  # the atom's length has two bytes
    atom = 4 + wide + int.from_bytes(term[3 : 4 + wide], "big")
    return term[0] == 131 and term[2] in (100, 115, 118, 119) and len(term) == atom + {88: 12, 103: 9}.get(term[1], -1)


def dead_of(queue: str) -> str:
    """The queue of its dead letters."""
    return f"{queue}{_DEAD}"


def dead_lettering(queue: str) -> dict[str, str]:
    """Arguments of a queue: what is delivered too often goes to its dead queue, through the default exchange."""
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead_of(queue)}


def expires_of(expiration: str, sent: float, now: float) -> dict[str, str]:
    """The header that says when a message expires whose own expiration a copy can't have. Times are Unix times.

    The server has just delivered it: where it would have expired, `sent` is another time than that of its coming.
    """
    if not expiration.isdecimal() or len(expiration) > 15:
        return {}
    wait = int(expiration) / 1000
    return {h.EXPIRES: h.rfc3339(min((sent if sent + wait > now else now) + wait, _YEAR_9999))}


def without_servers_own(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers for a copy: what the server wrote of an earlier life (`x-death`, ...) would be believed by it."""
    return {name: value for name, value in headers.items() if not name.startswith(OWN)}

"""What is the same on RabbitMQ whether one gets there over AMQP or over STOMP."""

from __future__ import annotations

from collections.abc import Mapping

from msgbus.brokers.naming import joined
from msgbus.message import Address, Source

_DEAD = ".dead"

DELIVERY_COUNT = "x-delivery-count"
"""Header of a message from a quorum queue: absent at first, then 1, 2, ..."""

OWN = ("x-death", "x-first-death-", "x-last-death-", DELIVERY_COUNT, "x-acquired-count")
"""How the names of headers begin that the server writes."""


def queue_of(place: Source | Address) -> str:
    """The queue of a source, or of an address that is a queue or one group."""
    return joined(place.name, place.group, ".", _DEAD) if place.kind == "topic" else place.name


def dead_of(queue: str) -> str:
    """The queue of its dead letters."""
    return f"{queue}{_DEAD}"


def dead_lettering(queue: str) -> dict[str, str]:
    """Arguments of a queue: what is delivered too often goes to its dead queue, through the default exchange."""
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead_of(queue)}


def without_servers_own(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers for a copy: what the server wrote of an earlier life (`x-death`, ...) would be believed by it."""
    return {name: value for name, value in headers.items() if not name.startswith(OWN)}

"""`amqp://` and `amqps://` URLs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from msgbus.brokers.mq import target
from msgbus.errors import ConfigError

_PORTS = {"amqp": (5672, False), "amqps": (5671, True)}
_LEAST = {"heartbeat": 0, "frame_max": 4096, "max_priority": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(target.Options):
    """What may follow the `?` of a URL, beside what mq.target.Options has.

    `client`: the wire. `auth`: "plain" with user and password, "external" with the client's certificate.
    `heartbeat`: seconds; silence of twice as long is a dead peer, 0 for none. `frame_max`: bytes of the largest frame.
    `max_priority`: the highest priority that queues which are made here tell apart, 0 for none: it makes them classic,
    since quorum queues have no priorities. `name`: how the connection is called in the server's lists.
    """

    client: Literal["lean", "aio-pika"] = "lean"
    auth: Literal["plain", "external"] = "plain"
    heartbeat: int = 20
    frame_max: int = 131_072
    max_priority: int = 0
    name: str = "msgbus"


Target = target.Target[Options]


def parse(url: str) -> Target:
    """See mq.target.target_of. Raises ConfigError."""
    found = target.target_of(url, _PORTS, ("guest", "guest"), Options(), _LEAST)
    priorities = found.options.max_priority
    if priorities > 255:
        raise ConfigError(f"{found.scheme}: max_priority={priorities}, allowed are 0 to 255")
    return replace(found, options=replace(found.options, queue_type="classic")) if priorities else found

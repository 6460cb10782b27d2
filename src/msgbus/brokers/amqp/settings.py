"""`amqp://` and `amqps://` URLs."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import unquote, urlsplit

from msgbus.brokers.urls import Hosts, account_of, hosts_of, options_of, tls_context
from msgbus.errors import ConfigError

PATIENCE = 30.0
"""Seconds that a call may take: a quorum queue without a leader never answers."""

PORTS = {"amqp": 5672, "amqps": 5671}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What may follow the `?` of a URL. Times in seconds, sizes in bytes.

    `client`: the wire. `auth`: "plain" with user and password, "external" with the client's certificate.
    `ca`, `cert`, `key`: PEM files: who may sign the server's certificate, and the client's own. `heartbeat`: silence
    of twice as long is a dead peer, 0 for none. `timeout`: of one attempt to connect. `frame_max`: the largest frame.
    `queue_type`: of queues that are made here. `max_priority`: the highest priority that they tell apart, 0 for none:
    it makes them classic, since quorum queues have no priorities. `max_bytes`: the largest body, at most the server's
    max_message_size. `consumer_timeout`: the server's: how long a delivery may stay unsettled.
    `name`: how the connection is called in the server's lists.
    """

    client: Literal["lean", "aio-pika"] = "lean"
    auth: Literal["plain", "external"] = "plain"
    ca: str = ""
    cert: str = ""
    key: str = ""
    heartbeat: int = 20
    timeout: float = 10.0
    frame_max: int = 131_072
    queue_type: Literal["quorum", "classic"] = "quorum"
    max_priority: int = 0
    max_bytes: int = 16 * 1024 * 1024
    consumer_timeout: float = 1800.0
    name: str = "msgbus"


_CHOICES = {"client": ("lean", "aio-pika"), "auth": ("plain", "external"), "queue_type": ("quorum", "classic")}
_LEAST = {
    "heartbeat": 0,
    "timeout": 0.001,
    "frame_max": 4096,
    "max_priority": 0,
    "max_bytes": 1,
    "consumer_timeout": 1.0,
}


@dataclass(frozen=True, slots=True)
class Target:
    """Where and as whom to connect: `hosts` are (host, port), tried in turn."""

    hosts: Hosts
    user: str
    password: str
    vhost: str
    tls: bool
    options: Options

    def __str__(self) -> str:
        """Without the password."""
        places = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{'amqps' if self.tls else 'amqp'}://{places}/{'' if self.vhost == '/' else self.vhost}"

    def context(self) -> ssl.SSLContext | None:
        """The TLS settings; None without TLS."""
        options = self.options
        return tls_context(str(self), options.ca, options.cert, options.key) if self.tls else None


def parse(url: str) -> Target:
    """`amqp://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/VHOST][?OPTION=VALUE...]`. Raises ConfigError."""
    parts = urlsplit(url)
    user, password = account_of(url, ("guest", "guest"))
    options = options_of(url, Options(), _CHOICES, _LEAST)
    if options.key and not options.cert:
        raise ConfigError(f"{parts.scheme}: key= needs cert=")
    if options.max_priority > 255:
        raise ConfigError(f"{parts.scheme}: max_priority={options.max_priority}, allowed are 0 to 255")
    if options.max_priority:
        options = replace(options, queue_type="classic")
    return Target(
        hosts=hosts_of(url, PORTS[parts.scheme]),
        user=user,
        password=password,
        vhost=unquote(parts.path[1:]) or "/",
        tls=parts.scheme == "amqps",
        options=options,
    )

"""`stomp://` and `stomp+ssl://` URLs."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from msgbus.brokers.urls import Hosts, account_of, hosts_of, options_of, tls_context
from msgbus.errors import ConfigError

PATIENCE = 30.0
"""Seconds that a call may take until its receipt."""

_PORTS = {"stomp": 61613, "stomp+ssl": 61614}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What may follow the `?` of a URL. Times in seconds, sizes in bytes.

    `client`: the wire. `version`: the highest STOMP to speak. `ca`, `cert`, `key`: PEM files: who may sign the
    server's certificate, and the client's own. `heartbeat`: silence of twice as long is a dead peer, 0 for none.
    `timeout`: of one attempt to connect. `max_bytes`: the largest body. `selectors`: "on" has ActiveMQ filter what a
    group asks for, which needs `selectorAware="true"` on its virtual topics.
    RabbitMQ alone: `queue_type`: of queues that are made here; `consumer_timeout`: the server's.
    """

    client: Literal["lean", "stomp.py"] = "lean"
    version: Literal["1.2", "1.1", "1.0"] = "1.2"
    ca: str = ""
    cert: str = ""
    key: str = ""
    heartbeat: float = 20.0
    timeout: float = 10.0
    max_bytes: int = 16 * 1024 * 1024
    selectors: Literal["off", "on"] = "off"
    queue_type: Literal["quorum", "classic"] = "quorum"
    consumer_timeout: float = 1800.0


_CHOICES = {
    "client": ("lean", "stomp.py"),
    "version": ("1.2", "1.1", "1.0"),
    "selectors": ("off", "on"),
    "queue_type": ("quorum", "classic"),
}
_LEAST = {"heartbeat": 0.0, "timeout": 0.001, "max_bytes": 1, "consumer_timeout": 1.0}


@dataclass(frozen=True, slots=True)
class Target:
    """Where and as whom to connect: `hosts` are (host, port), tried in turn. `user` "": none is named."""

    hosts: Hosts
    user: str
    password: str
    vhost: str
    tls: bool
    options: Options

    def __str__(self) -> str:
        """Without the password."""
        places = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{'stomp+ssl' if self.tls else 'stomp'}://{places}/{'' if self.vhost == '/' else self.vhost}"

    def context(self) -> ssl.SSLContext | None:
        """The TLS settings; None without TLS."""
        options = self.options
        return tls_context(str(self), options.ca, options.cert, options.key) if self.tls else None

    def connect_headers(self) -> dict[str, str]:
        """Of the CONNECT frame, without the heart-beat."""
        versions = [version for version in ("1.0", "1.1", "1.2") if version <= self.options.version]
        headers = {"accept-version": ",".join(versions), "host": self.vhost}
        return headers | ({"login": self.user, "passcode": self.password} if self.user else {})

    def heart_beat(self) -> int:
        """Milliseconds."""
        return int(self.options.heartbeat * 1000)


def parse(url: str) -> Target:
    """`stomp://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/VHOST][?OPTION=VALUE...]`. Raises ConfigError."""
    parts = urlsplit(url)
    user, password = account_of(url, ("", ""))
    options = options_of(url, Options(), _CHOICES, _LEAST)
    if options.client == "stomp.py" and options.version != "1.2":
        raise ConfigError(
            f"{parts.scheme}: client=stomp.py speaks 1.2 here, version={options.version} is for client=lean"
        )
    return Target(
        hosts=hosts_of(url, _PORTS[parts.scheme]),
        user=user,
        password=password,
        vhost=unquote(parts.path[1:]) or "/",
        tls=parts.scheme == "stomp+ssl",
        options=options,
    )
